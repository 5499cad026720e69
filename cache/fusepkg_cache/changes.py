"""One change of what LMDB keeps, inside one transaction.

Owns: the tables, and that the totals change with them. Must not know: transactions' beginning and end, files.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from fusepkg_cache.records import (
    Counts,
    Totals,
    counts_from,
    packed_use,
    recorded_bytes,
    sealed_bytes,
    size_only,
    totals_from,
    used_from,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    import lmdb

_TOTALS_KEY = b"totals"
_COUNTS_KEY = b"counts"
_WALKED_KEY = b"walked"


class Blob(NamedTuple):
    """What is known of a blob that is kept; in order of when it was used."""

    used: int
    size: int
    key: bytes
    large: bool


@dataclass(frozen=True, slots=True)
class Tables:
    """The handles of the tables, which belong to one open environment.

    ``small``: blob key -> sum and data. ``large``: blob key -> size and block sums. ``used``: blob key -> when it was
    last known to be used; may lack a blob. ``totals``: the totals, the counts, and when all files were last looked at.
    """

    small: lmdb._Database
    large: lmdb._Database
    used: lmdb._Database
    totals: lmdb._Database

    @classmethod
    def opened(cls, environment: lmdb.Environment, transaction: lmdb.Transaction) -> Tables:
        """The tables of an environment, made where they are missing."""
        return cls(*(environment.open_db(name, txn=transaction) for name in (b"small", b"large", b"used", b"totals")))

    @property
    def all(self) -> tuple[lmdb._Database, ...]:
        """Every table."""
        return (self.small, self.large, self.used, self.totals)

    def totals_in(self, transaction: lmdb.Transaction) -> Totals:
        """The totals as of a transaction."""
        return totals_from(transaction.get(_TOTALS_KEY, db=self.totals))

    def counts_in(self, transaction: lmdb.Transaction) -> Counts:
        """The counts as of a transaction."""
        return counts_from(transaction.get(_COUNTS_KEY, db=self.totals))

    def walked_in(self, transaction: lmdb.Transaction) -> int:
        """When it was last made sure that all files are counted; 0 for never."""
        return used_from(transaction.get(_WALKED_KEY, db=self.totals))

    def blobs_in(self, transaction: lmdb.Transaction) -> tuple[int, int]:
        """The number of small and of large blobs."""
        small, large = (transaction.stat(table)["entries"] for table in (self.small, self.large))
        return small, large

    def run_in(self, transaction: lmdb.Transaction, start: bytes, most: int, *, large: bool) -> list[Blob]:
        """The next blobs in order of their keys; fewer than ``most`` where the last one is reached."""
        size_of = recorded_bytes if large else sealed_bytes
        run: list[Blob] = []
        with transaction.cursor(db=self.large if large else self.small) as cursor:
            found = cursor.set_range(start) if start else cursor.first()
            while found and len(run) < most:
                key = bytes(cursor.key())
                run.append(Blob(used_from(transaction.get(key, db=self.used)), size_of(cursor.value()), key, large))
                found = cursor.next()
        return run


class Changes:
    """What one transaction does. ``totals`` is right at every moment, and stored by ``settle``."""

    def __init__(self, transaction: lmdb.Transaction, tables: Tables) -> None:
        self._transaction = transaction
        self._tables = tables
        self._before = self.totals = tables.totals_in(transaction)
        self._counted = Counts()
        self._now = int(time.time())

    def settle(self) -> None:
        """Store the totals and the counts, if they changed."""
        if self.totals != self._before:
            self._transaction.put(_TOTALS_KEY, self.totals.packed(), db=self._tables.totals)
        if self._counted != Counts():
            counts = self._tables.counts_in(self._transaction) + self._counted
            self._transaction.put(_COUNTS_KEY, counts.packed(), db=self._tables.totals)

    def small(self, key: bytes) -> bytes | None:
        """The value of a small blob."""
        value = self._transaction.get(key, db=self._tables.small)
        return None if value is None else bytes(value)

    @property
    def held_bytes(self) -> int:
        """The bytes of all blobs that are known."""
        return self.totals.small_bytes + self.totals.large_bytes

    @property
    def added_bytes(self) -> int:
        """By how much this transaction has raised that."""
        return self.held_bytes - self._before.small_bytes - self._before.large_bytes

    @property
    def blobs(self) -> tuple[int, int]:
        """The number of small and of large blobs."""
        return self._tables.blobs_in(self._transaction)

    @property
    def counts(self) -> Counts:
        """The counts before this transaction."""
        return self._tables.counts_in(self._transaction)

    def run(self, start: bytes, most: int, *, large: bool) -> list[Blob]:
        """The next blobs in order of their keys."""
        return self._tables.run_in(self._transaction, start, most, large=large)

    def has(self, blob: Blob) -> bool:
        """Whether a blob is still kept."""
        table = self._tables.large if blob.large else self._tables.small
        return self._transaction.get(blob.key, db=table) is not None

    def used(self, key: bytes) -> int:
        """When a blob was used; 0 where that is not known."""
        return used_from(self._transaction.get(key, db=self._tables.used))

    def count(self, more: Counts) -> None:
        """Add to the counts."""
        self._counted += more

    def walked(self) -> None:
        """Note that all files are counted."""
        self._transaction.put(_WALKED_KEY, packed_use(self._now), db=self._tables.totals)

    def put_small(self, key: bytes, value: bytes) -> None:
        """Keep a small blob, unless it is there."""
        if self._transaction.put(key, value, db=self._tables.small, overwrite=False):
            self._add(small=sealed_bytes(value))
            self._use(key, self._now)

    def drop_small(self, key: bytes) -> int | None:
        """Drop a small blob; its size, None if it was not there."""
        value = self._transaction.get(key, db=self._tables.small)
        if value is None:
            return None
        size = sealed_bytes(value)
        self._transaction.delete(key, db=self._tables.small)
        self._transaction.delete(key, db=self._tables.used)
        self._add(small=-size)
        return size

    def put_record(self, key: bytes, value: bytes) -> None:
        """Keep the record of a large blob, in place of what was kept; a blob in both tiers would count twice."""
        self.drop_record(key)
        self.drop_small(key)
        self._transaction.put(key, value, db=self._tables.large)
        self._add(large=recorded_bytes(value))
        self._use(key, self._now)

    def put_size(self, key: bytes, size: int, used: int) -> None:
        """Keep what is known of a file that was found: its size, and when it was used. Unless it has a record."""
        value = size_only(size)
        if self._transaction.put(key, value, db=self._tables.large, overwrite=False):
            self._add(large=size)
            self._use(key, used)

    def drop_record(self, key: bytes) -> None:
        """Drop the record of a large blob."""
        value = self._transaction.get(key, db=self._tables.large)
        if value is not None:
            self._add(large=-recorded_bytes(value))
            self._transaction.delete(key, db=self._tables.large)
            self._transaction.delete(key, db=self._tables.used)

    def use(self, keys: Iterable[bytes], at_least_s: int) -> None:
        """Note that blobs were used just now; those noted less than ``at_least_s`` ago stay as they are."""
        for key in sorted(keys):
            noted = self.used(key)
            if noted and self._now - noted >= at_least_s:  # without a note it was dropped meanwhile
                self._use(key, self._now)

    def drop_damaged(self, key: bytes) -> None:
        """Drop a damaged blob, small or large, and count it."""
        self.drop_small(key)
        self.drop_record(key)
        self.totals = replace(self.totals, verification_failures=self.totals.verification_failures + 1)

    def drop_all(self) -> None:
        """Drop everything; the totals stay as they are, for nobody reads them again."""
        for table in self._tables.all:
            self._transaction.drop(table, delete=False)
        self._before, self._counted = self.totals, Counts()

    def begin_with(self, verification_failures: int, counts: Counts) -> None:
        """Take over from another environment what is counted over the life of the cache."""
        self.totals = replace(self.totals, verification_failures=verification_failures)
        self.count(counts)
        self.walked()

    def _use(self, key: bytes, when: int) -> None:
        self._transaction.put(key, packed_use(when), db=self._tables.used)

    def _add(self, *, small: int = 0, large: int = 0) -> None:
        self.totals = replace(
            self.totals,
            small_bytes=max(0, self.totals.small_bytes + small),
            large_bytes=max(0, self.totals.large_bytes + large),
        )
