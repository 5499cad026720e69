"""Keeping a cache below a number of bytes.

Owns: which blobs go, and finding large blobs that nobody counted. Must not know: who asks, when.

Keys are hashes, so a run of neighbouring keys is a random sample of the blobs. Each step takes one, of small and
of large blobs, and drops the least recently used quarter of it: about what dropping in exact order would do, with no
ordered table to be kept. Readers are not kept out by any of it, writers for one short transaction.
"""

from __future__ import annotations

import os
import secrets
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from fusepkg_cache.digest import DIGEST_BYTES, Algorithm, Digest
from fusepkg_cache.records import digest_of, key_of, recorded_bytes, sealed_bytes, used_from

if TYPE_CHECKING:
    from collections.abc import Iterator

    import lmdb

    from fusepkg_cache.changes import Changes, Tables
    from fusepkg_cache.records import Totals
    from fusepkg_cache.session import Session

SAMPLE = 1024
"""Blobs of each tier looked at in a step: 2 ms, and one in four of them is a fair guess at the oldest."""

LOW_WATER = 0.95
"""Part of the bound that eviction goes down to, so that it does not run again with every put."""


class _Candidate(NamedTuple):
    used: int
    size: int
    key: bytes
    large: bool


class Bound:
    """Upkeep of one process: ``step`` is called by its writer thread, between transactions."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._shrinking = False
        self._generation = -1
        self._finding: Iterator[None] = iter(())
        self.max_bytes: int | None = None

    def limit(self, max_bytes: int | None) -> None:
        """Keep to ``max_bytes`` from now on, unless a smaller bound is set."""
        if max_bytes is not None:
            self.max_bytes = max_bytes if self.max_bytes is None else min(self.max_bytes, max_bytes)

    def step(self) -> bool:
        """Do a little of what is to do; whether there is more."""
        if self.max_bytes is None:
            return False
        environment = self._session.environment
        if self._generation != environment.generation:  # a fresh one, perhaps, which knows none of the files
            self._generation = environment.generation
            self._finding = find_files(self._session)
        if next(self._finding, self) is None:
            return True
        held = held_bytes(self._session)
        self._shrinking = held > (self.max_bytes * LOW_WATER if self._shrinking else self.max_bytes)
        if self._shrinking:
            self._shrinking = bool(evict_some(self._session, int(held - self.max_bytes * LOW_WATER)))
        return self._shrinking


def shrink(session: Session, max_bytes: int) -> list[int]:
    """Evict until at most ``max_bytes`` are held; the sizes of what was dropped. Never in the writer thread."""
    session.environment.refresh()
    session.recency.write()
    for _ in find_files(session):
        pass
    dropped: list[int] = []
    while (excess := held_bytes(session) - max_bytes) > 0 and (some := evict_some(session, excess)):
        dropped += [size for size in some if size is not None]
    return dropped


def held_bytes(session: Session) -> int:
    """The bytes of all blobs that are known."""
    totals = session.environment.view(_totals)
    return totals.small_bytes + totals.large_bytes


def evict_some(session: Session, excess: int) -> list[int | None]:
    """Drop the least recently used blobs of a sample, a quarter of it at most.

    The sizes of what was dropped, None for a record whose file was gone; empty where nothing is left to drop.
    """
    algorithm = secrets.choice(list(Algorithm))
    candidates = session.environment.view(_sample, key_of(Digest(algorithm, secrets.token_bytes(DIGEST_BYTES))))
    candidates.sort()
    chosen: list[_Candidate] = []
    freed = 0
    for candidate in candidates[: -(-len(candidates) // 4)]:
        if freed >= excess:
            break
        chosen.append(candidate)
        freed += candidate.size
    sizes: list[int | None] = []
    for candidate in chosen:
        digest = digest_of(candidate.key)
        sizes.append(session.blobs.remove(digest) if candidate.large and digest is not None else candidate.size)
    session.environment.change(partial(_drop, candidates=chosen))
    return sizes


def find_files(session: Session) -> Iterator[None]:
    """Record the size of files without a record, a few with each ``next``: killed writers and lost records leave such.

    Their sums are found, as those of any file without, when they are read.
    """
    files = iter(session.blobs)
    while some := list(islice(files, SAMPLE)):
        unknown = session.environment.view(_without_record, [key_of(digest) for digest in some])
        found = []
        for digest in some:
            if key_of(digest) in unknown:
                try:
                    status = os.stat(session.blobs.path(digest))
                except FileNotFoundError:
                    continue
                found.append((key_of(digest), status.st_size, int(status.st_mtime)))
        if found:
            session.environment.change(partial(_put_sizes, found=found))
        yield


def _totals(transaction: lmdb.Transaction, tables: Tables) -> Totals:
    return tables.totals_in(transaction)


def _sample(transaction: lmdb.Transaction, tables: Tables, start: bytes) -> list[_Candidate]:
    candidates = []
    for table, size_of, large in ((tables.small, sealed_bytes, False), (tables.large, recorded_bytes, True)):
        with transaction.cursor(db=table) as cursor:
            found = cursor.set_range(start)
            if found and bytes(cursor.key())[:1] != start[:1]:  # no blobs of that algorithm: a place among the others
                found = cursor.set_range(bytes(cursor.key())[:1] + start[1:])
            if not found:
                cursor.first()
            for _ in range(min(SAMPLE, transaction.stat(table)["entries"])):
                key = bytes(cursor.key())
                used = used_from(transaction.get(key, db=tables.used))
                candidates.append(_Candidate(used, size_of(cursor.value()), key, large))
                if not cursor.next():
                    cursor.first()
    return candidates


def _without_record(transaction: lmdb.Transaction, tables: Tables, keys: list[bytes]) -> set[bytes]:
    return {key for key in keys if transaction.get(key, db=tables.large) is None}


def _drop(changes: Changes, candidates: list[_Candidate]) -> None:
    for candidate in candidates:
        if candidate.large:
            changes.drop_record(candidate.key)
        else:
            changes.drop_small(candidate.key)


def _put_sizes(changes: Changes, found: list[tuple[bytes, int, int]]) -> None:
    for key, size, used in found:
        changes.put_size(key, size, used)
