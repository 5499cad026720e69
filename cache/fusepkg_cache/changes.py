"""One change of what LMDB keeps, inside one transaction.

Owns: the tables, and that the totals change with them. Must not know: transactions' beginning and end, files.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fusepkg_cache.records import Totals, packed_use, recorded_bytes, sealed_bytes, size_only, totals_from, used_from

if TYPE_CHECKING:
    from collections.abc import Iterable

    import lmdb

_TOTALS_KEY = b"totals"


@dataclass(frozen=True, slots=True)
class Tables:
    """The handles of the tables, which belong to one open environment.

    ``small``: blob key -> sum and data. ``large``: blob key -> size and block sums. ``used``: blob key -> when it was
    last known to be used; may lack a blob. ``totals``: one record.
    """

    small: lmdb._Database
    large: lmdb._Database
    used: lmdb._Database
    totals: lmdb._Database

    @classmethod
    def opened(cls, environment: lmdb.Environment, transaction: lmdb.Transaction) -> Tables:
        """The tables of an environment, made where they are missing."""
        return cls(*(environment.open_db(name, txn=transaction) for name in (b"small", b"large", b"used", b"totals")))

    def totals_in(self, transaction: lmdb.Transaction) -> Totals:
        """The totals as of a transaction."""
        return totals_from(transaction.get(_TOTALS_KEY, db=self.totals))


class Changes:
    """What one transaction does. ``totals`` is right at every moment, and stored by ``settle``."""

    def __init__(self, transaction: lmdb.Transaction, tables: Tables) -> None:
        self._transaction = transaction
        self._tables = tables
        self._before = self.totals = tables.totals_in(transaction)
        self._now = int(time.time())

    def settle(self) -> None:
        """Store the totals, if they changed."""
        if self.totals != self._before:
            self._transaction.put(_TOTALS_KEY, self.totals.packed(), db=self._tables.totals)

    def small(self, key: bytes) -> bytes | None:
        """The value of a small blob."""
        value = self._transaction.get(key, db=self._tables.small)
        return None if value is None else bytes(value)

    def small_blobs(self) -> int:
        """The number of small blobs."""
        entries: int = self._transaction.stat(self._tables.small)["entries"]
        return entries

    def put_small(self, key: bytes, value: bytes) -> None:
        """Keep a small blob, unless it is there."""
        if self._transaction.put(key, value, db=self._tables.small, overwrite=False):
            self._add(small=sealed_bytes(value))
            self._use(key, self._now)

    def drop_small(self, key: bytes) -> int | None:
        """Drop a small blob; its size, None if it was not there."""
        value = self._transaction.pop(key, db=self._tables.small)
        if value is None:
            return None
        size = sealed_bytes(value)
        self._transaction.delete(key, db=self._tables.used)
        self._add(small=-size)
        return size

    def put_record(self, key: bytes, value: bytes) -> None:
        """Keep the record of a large blob, in place of what was kept."""
        self.drop_record(key)
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
        value = self._transaction.pop(key, db=self._tables.large)
        if value is not None:
            self._add(large=-recorded_bytes(value))
            self._transaction.delete(key, db=self._tables.used)

    def use(self, keys: Iterable[bytes], at_least_s: int) -> None:
        """Note that blobs were used just now; those noted less than ``at_least_s`` ago stay as they are."""
        for key in sorted(keys):
            noted = used_from(self._transaction.get(key, db=self._tables.used))
            if noted and self._now - noted >= at_least_s:  # without a note it was dropped meanwhile
                self._use(key, self._now)

    def drop_damaged(self, key: bytes) -> None:
        """Drop a damaged blob, small or large, and count it."""
        self.drop_small(key)
        self.drop_record(key)
        self.totals = replace(self.totals, verification_failures=self.totals.verification_failures + 1)

    def drop_all(self) -> None:
        """Drop everything; the totals stay as they are, for nobody reads them again."""
        for table in (self._tables.small, self._tables.large, self._tables.used, self._tables.totals):
            self._transaction.drop(table, delete=False)
        self._before = self.totals

    def _use(self, key: bytes, when: int) -> None:
        self._transaction.put(key, packed_use(when), db=self._tables.used)

    def _add(self, *, small: int = 0, large: int = 0) -> None:
        self.totals = replace(
            self.totals,
            small_bytes=max(0, self.totals.small_bytes + small),
            large_bytes=max(0, self.totals.large_bytes + large),
        )
