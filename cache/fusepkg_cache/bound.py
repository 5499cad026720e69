"""Keeping a cache below a number of bytes, and off the last free bytes of its disk.

Owns: when blobs go and how much of them, and that large blobs which nobody counted are found. Must not know: which go
(``eviction``), who asks.

Two things keep to the bound. ``settle`` is part of every transaction that puts: past a little more than the bound,
what was put makes room for itself there and then, so no number of processes can fill faster than blobs go.
``step`` does the rest in the background, between transactions, down to a little less than the bound.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from fusepkg_cache.errors import BlobTooLarge
from fusepkg_cache.eviction import Evictor
from fusepkg_cache.records import key_of

if TYPE_CHECKING:
    from collections.abc import Generator

    import lmdb

    from fusepkg_cache.changes import Changes, Tables
    from fusepkg_cache.records import Totals
    from fusepkg_cache.session import Session

LOW_WATER = 0.95
"""Part of the bound that eviction goes down to, so that it does not run again with every put."""

HIGH_WATER = 1.03
"""Part of the bound at which puts wait for room: several processes may put a little more at the same moment."""

SETTLE_STEPS = 8
"""Samples a transaction that puts may drop from: some 30 ms."""

FOUND_AT_ONCE = 1024
"""Files looked at between two transactions."""

WALK_AGAIN_S = 86400
"""Until all files are looked at again: killed writers leave some that are not counted."""

WALK_LOOK_S = 600.0
"""Between two looks whether that is due: another process may be at it, and be killed before it is done."""

_T = TypeVar("_T")


class Bound:
    """Upkeep of one process: ``step`` is called by its writer thread, between transactions."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._evictor = Evictor(session)
        self._shrinking = False
        self._generation = -1
        self._look_again_s = 0.0
        self._walk: Generator[None] | None = None
        self.max_bytes: int | None = None
        self.min_free_bytes: int | None = None

    def limit(self, max_bytes: int | None, min_free_bytes: int | None) -> None:
        """Keep to these from now on, unless what was asked for before is stricter."""
        if max_bytes is not None:
            self.max_bytes = max_bytes if self.max_bytes is None else min(self.max_bytes, max_bytes)
        if min_free_bytes is not None:
            self.min_free_bytes = max(self.min_free_bytes or 0, min_free_bytes)

    def require_room(self, blob_bytes: int) -> None:
        """Raise BlobTooLarge for what would push out everything else and then itself."""
        if self.max_bytes is not None and blob_bytes > self.max_bytes:
            raise BlobTooLarge(
                f"a blob of {blob_bytes} bytes or more does not fit into a cache of {self.max_bytes}",
                hint="Give the cache a larger bound",
            )

    @property
    def walk_due(self) -> bool:
        """Whether files may lie about that nobody counted."""
        walked = self._session.environment.view(_walked)
        return not walked or not 0 <= time.time() - walked < WALK_AGAIN_S

    def unpinned(self) -> None:
        """Something may be evicted now that could not be before."""
        self._evictor.wake()

    def settle(self, changes: Changes) -> None:
        """Let what was just put make room for itself, at the end of its transaction."""
        if self.max_bytes is None or changes.added_bytes <= 0:
            return
        over = changes.held_bytes - int(self.max_bytes * HIGH_WATER)
        if over > 0:
            target = changes.held_bytes - min(over, 2 * changes.added_bytes)
            with suppress(OSError):  # what is put is not to suffer; the next step tells
                self._evictor.drop(changes, target, steps=SETTLE_STEPS)

    def step(self) -> bool:
        """Do a little of what is to do; whether there is more."""
        if self._session.recency.due:
            self._session.environment.change(self._session.recency.taken())
        more = self._find_more()
        return self._evict_more() or more

    def close(self) -> None:
        """Leave the files to others to look at."""
        if self._walk is not None:
            self._walk.close()

    def shrink(self, max_bytes: int) -> list[int]:
        """Evict until at most ``max_bytes`` are held; the sizes of what was dropped. Never in the writer thread."""
        session = self._session
        session.environment.refresh()
        session.commits.wait_turn()
        session.recency.write()
        find_all_files(session)
        evictor = Evictor(session)
        dropped: list[int] = []
        while held_bytes(session) > max_bytes and not evictor.resting():
            dropped += session.commits.change(lambda changes: evictor.drop(changes, max_bytes))
        return dropped

    # --- inside -------------------------------------------------------------------------------------------------

    def _find_more(self) -> bool:
        environment = self._session.environment
        if self._walk is None:
            now = time.monotonic()
            if self._generation == environment.generation and now < self._look_again_s:
                return False
            self._generation, self._look_again_s = environment.generation, now + WALK_LOOK_S
            if not self.walk_due:  # a fresh environment, perhaps, knows none of the files
                return False
            self._walk = walk(self._session)
        if next(self._walk, self) is None:
            return True
        self._walk = None
        return False

    def _evict_more(self) -> bool:
        target = self._target()
        if target is None:
            self._shrinking = False
            return False
        held, large_only = target
        self._session.environment.change(lambda changes: self._evictor.drop(changes, held, large_only=large_only))
        return not self._evictor.resting(large_only=large_only)

    def _target(self) -> tuple[int, bool] | None:
        """The bytes that may stay, and whether only files are to go; None where nothing has to."""
        if self.max_bytes is None and self.min_free_bytes is None:
            return None
        held = held_bytes(self._session)
        target = held
        if self.max_bytes is not None:
            self._shrinking = held > self.max_bytes * (LOW_WATER if self._shrinking else 1)
            if self._shrinking:
                target = int(self.max_bytes * LOW_WATER)
        lacking = 0
        if self.min_free_bytes is not None:
            disk = os.statvfs(self._session.layout.root)
            lacking = self.min_free_bytes - disk.f_bavail * disk.f_frsize
        if lacking > 0:
            if self._session.environment.view(_totals).large_bytes and not self._evictor.resting(large_only=True):
                return min(target, held - lacking), target == held
            # LMDB's file never shrinks: what is free in it counts, for the next blobs go there
            target = min(target, held - max(0, lacking - self._session.environment.slack_bytes))
        return None if target >= held or self._evictor.resting() else (target, False)


def held_bytes(session: Session) -> int:
    """The bytes of all blobs that are known."""
    totals = session.environment.view(_totals)
    return totals.small_bytes + totals.large_bytes


def walk(session: Session) -> Generator[None]:
    """Find files, and note that all are found; does nothing where another process is at it."""
    descriptor = os.open(session.layout.blobs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        try:
            yield from find_files(session)
            session.environment.change(lambda changes: changes.walked())
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing does not, in a process that forked meanwhile
    finally:
        os.close(descriptor)


def find_all_files(session: Session) -> None:
    """Find files, all at once."""
    for _ in find_files(session):
        pass


def find_files(session: Session) -> Generator[None]:
    """Record the size of files without a record, a few with each ``next``: killed writers and lost records leave such.

    Their sums are found, as those of any file without, when they are read.
    """
    files = iter(session.blobs)
    while some := list(islice(files, FOUND_AT_ONCE)):
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


def _walked(transaction: lmdb.Transaction, tables: Tables) -> int:
    return tables.walked_in(transaction)


def _without_record(transaction: lmdb.Transaction, tables: Tables, keys: list[bytes]) -> set[bytes]:
    return {key for key in keys if transaction.get(key, db=tables.large) is None}


def _put_sizes(changes: Changes, found: list[tuple[bytes, int, int]]) -> None:
    for key, size, used in found:
        changes.put_size(key, size, used)
