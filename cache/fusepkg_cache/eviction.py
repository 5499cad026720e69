"""Which blobs go: the least recently used of samples, or all that somebody no longer wants.

Owns: choosing and dropping, inside a transaction, and that nothing pinned goes. Must not know: when, and how much.

Keys are hashes, so a run of neighbouring keys is a random sample of the blobs. Each step takes the next run of small
and of large blobs, round and round, and drops the least recently used quarter of both: about what dropping in exact
order would do, with no ordered table to be kept. Choosing and dropping is one transaction, so that of several
processes which find the cache too large, only one makes it smaller. Readers are not kept out by any of it.
"""

from __future__ import annotations

import secrets
import time
from functools import partial
from typing import TYPE_CHECKING

from fusepkg_cache.digest import DIGEST_BYTES, Algorithm, Digest
from fusepkg_cache.records import Counts, digest_of, key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import lmdb

    from fusepkg_cache.changes import Blob, Changes, Tables
    from fusepkg_cache.files import Blobs
    from fusepkg_cache.session import Session

SAMPLE = 1024
"""Blobs of each tier looked at in a step: 2 ms, and one in four of them is a fair guess at the oldest."""

REST_S = 10.0
"""How long nothing is tried after a full round in which all was pinned."""


class Evictor:
    """Goes round the blobs of one cache, for one process."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._blobs = session.blobs
        self._pins = session.pins
        start = key_of(Digest(secrets.choice(list(Algorithm)), secrets.token_bytes(DIGEST_BYTES)))
        self._places = {False: start, True: start}
        self._in_vain = 0
        self._rest_until_s = {False: 0.0, True: 0.0}

    def resting(self, *, large_only: bool = False) -> bool:
        """Whether there was nothing left to drop a moment ago."""
        return time.monotonic() < self._rest_until_s[large_only]

    def drop(self, changes: Changes, target_bytes: int, *, steps: int = 1, large_only: bool = False) -> list[int]:
        """Drop some blobs while more than ``target_bytes`` are held; the sizes of what was dropped."""
        sizes: list[int] = []
        for _ in range(steps):
            if changes.held_bytes <= target_bytes or self.resting(large_only=large_only):
                break
            run = self._run(changes, large=True)
            if not large_only:
                run += self._run(changes, large=False)
            pinned = self._pins.among(blob.key for blob in run)
            in_use = self._session.recency.noted  # what was read in the last minute goes last
            free = sorted((blob for blob in run if blob.key not in pinned), key=lambda blob: (blob.key in in_use, blob))
            dropped = False
            for blob in free[: -(-len(free) // 4)]:
                if changes.held_bytes <= target_bytes:
                    break
                dropped = True
                size = drop(changes, self._blobs, blob)
                if size is not None:
                    sizes.append(size)
            self._in_vain = 0 if dropped else self._in_vain + len(run)
            small, large = changes.blobs
            if self._in_vain >= large + (0 if large_only else small):
                self._in_vain = 0
                self._rest_until_s[large_only] = time.monotonic() + REST_S
        changes.count(Counts(evictions=len(sizes), evicted_bytes=sum(sizes)))
        return sizes

    def wake(self) -> None:
        """Try at once, for something may be no longer pinned."""
        self._rest_until_s = {False: 0.0, True: 0.0}

    def _run(self, changes: Changes, *, large: bool) -> list[Blob]:
        run = changes.run(self._places[large], SAMPLE, large=large)
        if len(run) < SAMPLE:  # round the corner, but not further than the place it began at
            start, self._places[large] = self._places[large], b""
            more = changes.run(b"", SAMPLE - len(run), large=large)
            run += [blob for blob in more if blob.key < start]
        if run:
            self._places[large] = run[-1].key + b"\0"
        return run


def drop(changes: Changes, blobs: Blobs, blob: Blob) -> int | None:
    """Drop a blob: its file first, then what LMDB knows of it. Its size; None for a record whose file was gone."""
    if not blob.large:
        return changes.drop_small(blob.key)
    digest = digest_of(blob.key)
    size = None if digest is None else blobs.remove(digest)
    changes.drop_record(blob.key)
    return size


def drop_unwanted(session: Session, wanted: Callable[[Blob], bool], *, dry_run: bool = False) -> list[int]:
    """Drop what is neither wanted nor pinned, nor used since it was looked at; the sizes of what was dropped.

    With ``dry_run`` nothing is: they are what would be.
    """
    sizes: list[int] = []
    for run in _all_runs(session):
        unwanted = [blob for blob in run if not wanted(blob)]
        if dry_run:
            pinned = session.pins.among(blob.key for blob in unwanted)
            sizes += [blob.size for blob in unwanted if blob.key not in pinned]
        elif unwanted:
            sizes += session.commits.change(partial(_drop_unused, session=session, blobs=unwanted))
    return sizes


def _drop_unused(changes: Changes, session: Session, blobs: Iterable[Blob]) -> list[int]:
    pinned = session.pins.among(blob.key for blob in blobs)
    sizes = []
    for blob in blobs:
        if blob.key not in pinned and changes.used(blob.key) == blob.used and changes.has(blob):
            size = drop(changes, session.blobs, blob)
            if size is not None:
                sizes.append(size)
    return sizes


def _all_runs(session: Session) -> Iterator[list[Blob]]:
    for large in (False, True):
        start = b""
        while run := session.environment.view(_run_from, start, large):
            yield run
            start = run[-1].key + b"\0"


def _run_from(transaction: lmdb.Transaction, tables: Tables, start: bytes, large: bool) -> list[Blob]:
    return tables.run_in(transaction, start, SAMPLE, large=large)
