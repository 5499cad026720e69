"""Checking a whole cache, every byte against its hash.

Owns: the walk over both tiers, and the report. Must not know: who wants to know.

The walk looks at LMDB in short transactions, so that other processes' writes need no room for old pages meanwhile;
blobs that come or go during the walk are seen or not.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING

from fusepkg_cache.digest import Digest, compute_digest
from fusepkg_cache.files import check_in_full
from fusepkg_cache.records import digest_of, key_of, split, unseal
from fusepkg_cache.tiers import counted, drop_damaged_file, drop_damaged_small, drop_record_of_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import lmdb

    from fusepkg_cache.changes import Tables
    from fusepkg_cache.session import Session

_LOOK_BYTES = 4 * 1024 * 1024
"""Small blobs copied out in one transaction: long enough to be cheap, short enough to hold no pages back."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a check found.

    ``blobs`` and ``bytes`` were hashed. ``damaged`` ones do not hash to their name. ``missing`` ones have a record but
    no file, and ``unrecorded`` ones a sound file but no record, or a wrong one: both are harmless, and come from
    changes by others or from a process that was killed. ``repaired`` says that all three were put right.
    """

    blobs: int
    bytes: int
    damaged: tuple[Digest, ...]
    missing: tuple[Digest, ...]
    unrecorded: tuple[Digest, ...]
    repaired: bool

    @property
    def ok(self) -> bool:
        """Whether every blob is whole."""
        return not self.damaged


@dataclass(slots=True)
class _Check:
    session: Session
    repair: bool
    report: Callable[[int], None]
    blobs: int = 0
    bytes: int = 0
    damaged: list[Digest] = field(default_factory=list)
    missing: list[Digest] = field(default_factory=list)
    unrecorded: list[Digest] = field(default_factory=list)

    def _hashed(self, size: int) -> None:
        self.blobs += 1
        self.bytes += size
        self.report(self.bytes)

    def small(self) -> None:
        """Check the blobs in LMDB."""
        for key, value in _entries(self.session, "small"):
            digest = digest_of(key)
            if digest is None:
                continue
            total, data = split(value)
            if not digest.matches(compute_digest(digest.algorithm, data)) or not unseal(digest, total, data):
                self.damaged.append(digest)
                if self.repair:
                    self.session.commits.change(partial(drop_damaged_small, digest=digest))
            self._hashed(len(data))

    def files(self, digests: list[Digest]) -> None:
        """Check the files."""
        for digest in digests:
            descriptor = self.session.blobs.open(digest)
            if descriptor is None:
                continue  # removed meanwhile
            try:
                size = os.fstat(descriptor).st_size
                record = check_in_full(descriptor, digest)
                if record is None:
                    self.damaged.append(digest)
                    if self.repair:
                        drop_damaged_file(self.session, digest, descriptor)
                elif self.session.environment.view(_record_of, key_of(digest)) != record:
                    self.unrecorded.append(digest)
                    if self.repair:
                        self.session.commits.change(methodcaller("put_record", key_of(digest), record))
            finally:
                os.close(descriptor)
            self._hashed(size)

    def records(self) -> None:
        """Find the records whose files are gone."""
        for key, _ in _entries(self.session, "large"):
            digest = digest_of(key)
            if digest is not None and self.session.blobs.size(digest) is None:
                self.missing.append(digest)
                if self.repair:
                    self.session.commits.change(partial(drop_record_of_missing, session=self.session, digest=digest))


def verify(session: Session, *, repair: bool, progress: Callable[[int, int], None] | None) -> VerifyReport:
    """Check all blobs. See ``Cache.verify``."""
    totals, *_ = session.environment.view(counted)
    digests = list(session.blobs)
    there_are = totals.small_bytes + sum(session.blobs.size(digest) or 0 for digest in digests)
    check = _Check(session, repair, lambda done: progress(done, max(done, there_are)) if progress else None)
    check.small()
    check.files(digests)
    check.records()
    return VerifyReport(
        blobs=check.blobs,
        bytes=check.bytes,
        damaged=tuple(check.damaged),
        missing=tuple(check.missing),
        unrecorded=tuple(check.unrecorded),
        repaired=repair,
    )


def _record_of(transaction: lmdb.Transaction, tables: Tables, key: bytes) -> bytes | None:
    record = transaction.get(key, db=tables.large)
    return None if record is None else bytes(record)


def _entries(session: Session, table: str) -> Iterator[tuple[bytes, bytes]]:
    """All keys and values of a table."""
    after: bytes | None = None
    while entries := session.environment.view(_some, table, after):
        yield from entries
        after = entries[-1][0]


def _some(transaction: lmdb.Transaction, tables: Tables, table: str, after: bytes | None) -> list[tuple[bytes, bytes]]:
    entries: list[tuple[bytes, bytes]] = []
    weight = 0
    with transaction.cursor(db=tables.small if table == "small" else tables.large) as cursor:
        found = cursor.first() if after is None else cursor.set_range(after + b"\0")
        while found and weight < _LOOK_BYTES:
            entries.append((bytes(cursor.key()), bytes(cursor.value())))
            weight += len(entries[-1][1])
            found = cursor.next()
    return entries
