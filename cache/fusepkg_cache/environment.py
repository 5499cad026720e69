"""The LMDB environment of a cache directory, kept open for one process.

Owns: opening it, finding it damaged and starting afresh, growing the map, and short transactions on it. Must not
know: what a blob is; ``changes`` writes, callers look.

The files may change under us: another process may find them damaged, or empty them (``clear``), and put a fresh
environment in their place. So what counts is the file that has the name now (``_identity``): it is compared under
LMDB's write lock before every change, and by ``refresh`` whenever a blob was not found.

Threads: ``view`` and ``change`` may be called from any; both enter the gate, and closing or replacing waits for it.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

import lmdb

from fusepkg_cache._translate import DAMAGE, hanging, translated
from fusepkg_cache.changes import Changes, Tables
from fusepkg_cache.commits import PATIENCE_S
from fusepkg_cache.datafile import ensure_length, fault, reserve_lock_file
from fusepkg_cache.errors import CacheClosed, CacheUnusable
from fusepkg_cache.gate import Gate
from fusepkg_cache.layout import prepare
from fusepkg_cache.records import Counts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fusepkg_cache.layout import Layout
    from fusepkg_cache.records import Totals

log = logging.getLogger(__name__)

MAP_BYTES = 1 << 40
"""Address space kept for the map: 1 TiB, a hundred million files of 10 KB. It costs no memory and no disk until used
(the file is sparse and grows), 47 bits of addresses have room for 128 such maps, and it doubles when it is full."""

MAX_READERS = 4096
"""Threads of all processes that can look at once; a slot is 64 bytes of the lock file, and past it a get is a miss."""

READER_CHECK_EVERY = 256
"""Transactions between two searches for readers that were killed: until found, each keeps old pages from being used
again."""

_ATTEMPTS = 5
"""Times a transaction is tried while the environment is replaced or its map grows under it: two are the rule."""

_NO_ROOM_BYTES = 16 * 1024 * 1024
"""Free space below which a write that was cut short is put down to a full disk: what one transaction may write."""

_hanging: set[str] = set()
"""Environments of this process that are being prepared, perhaps by a thread that nobody waits for any longer."""

_T = TypeVar("_T")
_Args = TypeVarTuple("_Args")


class _Replaced(Exception):
    """Another environment has our environment's name by now, or could not be opened yet."""


class Environment:
    """One open environment. ``generation`` tells whether it is still the one that a caller found faulty."""

    def __init__(self, layout: Layout, *, map_bytes: int = MAP_BYTES) -> None:
        self._layout = layout
        self._data_file = layout.environment / "data.mdb"
        self._map_bytes = map_bytes
        self._gate = Gate()
        self._generation = 0
        self._changes = 0
        self._closed = False
        self._environment: lmdb.Environment | None = None  # None while it could not be opened again: tried at each call
        self._identity: tuple[int, int] | None = None
        with translated(f"cannot open the cache in {layout.directory}"), layout.locked():
            self._open()

    # --- transactions -------------------------------------------------------------------------------------------

    def view(self, look: Callable[[lmdb.Transaction, Tables, *_Args], _T], *args: *_Args) -> _T:
        """What ``look(transaction, tables, *args)`` finds. It gets memoryviews, which end with the transaction.

        Raises: CacheClosed, lmdb.Error.
        """
        for _ in range(_ATTEMPTS):
            generation = self._generation
            try:
                with self._gate, self._lmdb().begin(buffers=True) as transaction:
                    return look(transaction, self._tables, *args)
            except _Replaced:
                self.refresh()
            except lmdb.MapResizedError:
                self._map_again(generation, 0)
            except (*DAMAGE, lmdb.PanicError) as exc:
                self._recover(generation, exc)
        raise CacheUnusable(f"the cache in {self._layout.directory} keeps changing its size")

    def change(self, make: Callable[[Changes], _T]) -> _T:
        """Let ``make`` change what is kept, all or nothing; visible to all processes on return.

        Raises: CacheClosed, lmdb.Error, what ``make`` raises.
        """
        for _ in range(_ATTEMPTS):
            generation = self._generation
            try:
                with self._gate:
                    return self._change(make)
            except _Replaced:
                self.refresh()
            except lmdb.MapResizedError:
                self._map_again(generation, 0)
            except lmdb.MapFullError:
                self._map_again(generation, self.map_bytes * 2)
            except (*DAMAGE, lmdb.PanicError) as exc:
                self._recover(generation, exc)
            except lmdb.Error as exc:
                if getattr(exc, "code", 0) == errno.EIO and self._no_room():
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from exc
                raise
        raise CacheUnusable(f"the cache in {self._layout.directory} is replaced again and again")

    def _change(self, make: Callable[[Changes], _T]) -> _T:
        environment = self._lmdb()
        self._changes += 1
        if self._changes % READER_CHECK_EVERY == 0:
            environment.reader_check()
        with environment.begin(write=True, buffers=True) as transaction:
            if self._current_identity() != self._identity:
                raise _Replaced
            self._ensure_length(environment)
            changes = Changes(transaction, self._tables)
            made = make(changes)
            changes.settle()
            return made

    @property
    def map_bytes(self) -> int:
        """The present size of the map."""
        with self._gate:
            size: int = self._lmdb().info()["map_size"]
            return size

    @property
    def slack_bytes(self) -> int:
        """What is free inside the file, about: LMDB uses it again, and gives none of it back."""
        with self._gate:
            environment = self._lmdb()
            with environment.begin() as transaction:
                kept = [transaction.stat(table) for table in self._tables.all]
            pages: int = environment.info()["last_pgno"] + 1
            page_bytes: int = kept[0]["psize"]
            used: int = sum(some["branch_pages"] + some["leaf_pages"] + some["overflow_pages"] for some in kept)
            return max(0, pages - used) * page_bytes

    @property
    def generation(self) -> int:
        """Changes when another environment, perhaps an empty one, was opened in place of this one."""
        return self._generation

    # --- being replaced, replacing ------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Open what has our environment's name now; False if it is what was open already."""
        if self._environment is not None and self._current_identity() == self._identity:
            return False
        generation = self._generation
        with self._alone("cannot open the cache in {} again"):
            if self._generation == generation:
                self._reopen()
        return True

    def empty(self) -> tuple[int, int]:
        """Drop all that is kept, for every process, and give its room on the disk back; blobs and bytes of ``small``.

        LMDB never shrinks its file, so a fresh environment takes its place. Others still have the old one open: it is
        emptied too, so that they miss, look at the name, and open the fresh one.
        """
        with self._alone("cannot clear the cache in {}"), self._layout.locked():
            if self._current_identity() != self._identity or self._environment is None:
                self._open()
            emptied, past = (0, 0), (0, Counts())
            try:
                with self._lmdb().begin(write=True, buffers=True) as transaction:  # keeps all writers out
                    changes = Changes(transaction, self._tables)
                    emptied = (changes.blobs[0], changes.totals.small_bytes)
                    past = (changes.totals.verification_failures, changes.counts)
                    changes.drop_all()
                    self._move_away()
            except lmdb.Error as exc:  # damaged, or no room: others will notice with their next change only
                log.warning("the cache in %s was thrown away, not emptied: %s", self._layout.directory, exc)
                if self._current_identity() == self._identity:
                    self._move_away()
            self._shut()
            shutil.rmtree(self._layout.damaged, ignore_errors=True)  # before the fresh one needs room
            self._open()
            with self._lmdb().begin(write=True, buffers=True) as transaction:
                changes = Changes(transaction, self._tables)
                changes.begin_with(*past)
                changes.settle()
        return emptied

    def close(self) -> None:
        """Wait for all transactions to end, and close."""
        with self._gate.alone():
            self._closed = True
            self._shut()

    def suspend(self, patience_s: float) -> bool:
        """Close, and let nobody in until ``resume``; False, and nothing done, where a transaction takes too long."""
        if not self._gate.shut(patience_s):
            return False
        self._shut()
        return True

    def resume(self) -> None:
        """Undo ``suspend``: the next call opens again."""
        self._gate.open()

    # --- inside -------------------------------------------------------------------------------------------------

    @contextmanager
    def _alone(self, failing: str) -> Iterator[None]:
        """Alone in the gate of an environment that was not closed."""
        with translated(failing.format(self._layout.directory)), self._gate.alone():
            if self._closed:
                raise CacheClosed(f"the cache in {self._layout.directory} was closed")
            yield

    def _no_room(self) -> bool:
        """Whether the disk is full. LMDB says EIO where a write was cut short, which is how a disk fills up."""
        disk = os.statvfs(self._layout.root)
        return disk.f_bavail * disk.f_frsize < _NO_ROOM_BYTES

    def _lmdb(self) -> lmdb.Environment:
        if self._closed:
            raise CacheClosed(f"the cache in {self._layout.directory} was closed")
        if self._environment is None:
            raise _Replaced
        return self._environment

    def _current_identity(self) -> tuple[int, int] | None:
        try:
            found = self._data_file.stat()
        except FileNotFoundError:
            return None
        return (found.st_dev, found.st_ino)

    def _shut(self) -> None:
        if self._environment is not None:
            self._environment.close()
            self._environment = None

    def _open(self) -> None:
        """Open the environment, a fresh one where there is none or a damaged one. Only with the layout locked."""
        self._shut()
        wrong = fault(self._data_file)
        if wrong is None:
            try:
                self._open_sound()
            except DAMAGE as exc:
                wrong = str(exc)
        if wrong is not None:
            self._warn(wrong)
            self._move_away()
            self._open_sound()
        self._generation += 1

    def _open_sound(self) -> None:
        if str(self._layout.environment) in _hanging:  # open in this process: not even its lock file may be touched
            raise hanging(PATIENCE_S)
        self._layout.environment.mkdir(mode=0o700, exist_ok=True)
        reserve_lock_file(self._layout.environment / "lock.mdb", MAX_READERS)
        environment = lmdb.open(
            str(self._layout.environment),
            map_size=self._map_bytes,
            mode=0o700,
            max_dbs=8,  # three now; a new table needs no new layout as long as old programs may ignore it
            max_readers=MAX_READERS,
            max_spare_txns=1,  # reads of one thread after another take no new slot in the table of readers
            readahead=False,  # blobs are read in no order
            metasync=False,  # the last transactions may be lost in a power cut, never what was before them
        )
        self._tables = self._prepared(environment)
        self._environment = environment
        self._identity = self._current_identity()

    def _prepared(self, environment: lmdb.Environment) -> Tables:
        """The tables of an environment just opened, which is closed again where that fails.

        In a thread of its own: whoever was stopped in the middle of a transaction keeps LMDB's lock, and waiting for
        that can be neither bounded nor interrupted. Such a thread closes the environment once it gets the lock.
        """
        prepared: Future[Tables] = Future()
        path = str(self._layout.environment)

        def prepare() -> None:
            try:
                environment.reader_check()
                with environment.begin(write=True) as transaction:
                    self._ensure_length(environment)
                    tables = Tables.opened(environment, transaction)
            except BaseException as exc:  # noqa: BLE001  # whoever waits raises it
                environment.close()
                _hanging.discard(path)
                if prepared.set_running_or_notify_cancel():
                    prepared.set_exception(exc)
                return
            if prepared.set_running_or_notify_cancel():
                _hanging.discard(path)
                prepared.set_result(tables)
            else:
                environment.close()
                _hanging.discard(path)

        _hanging.add(path)
        threading.Thread(target=prepare, name="fusepkg-cache-opener", daemon=True).start()
        try:
            wait([prepared], PATIENCE_S)
        except BaseException:  # Ctrl-C
            if not prepared.cancel():
                environment.close()
            raise
        if prepared.cancel():
            raise hanging(PATIENCE_S)
        return prepared.result()

    def _ensure_length(self, environment: lmdb.Environment) -> None:
        used = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        ensure_length(self._data_file, used)

    def _move_away(self) -> None:
        shutil.rmtree(self._layout.damaged, ignore_errors=True)  # one is enough to find out what happened
        self._layout.environment.rename(self._layout.damaged)

    def _warn(self, wrong: str) -> None:
        log.warning(
            "the cache in %s is damaged and starts anew: %s: %s", self._layout.directory, self._data_file, wrong
        )

    def _reopen(self) -> None:
        self._shut()
        prepare(self._layout.directory)  # somebody may have removed the whole directory
        with self._layout.locked():
            self._open()

    def _recover(self, generation: int, exc: lmdb.Error) -> None:
        """Start afresh after a transaction found damage, unless another thread or process did so meanwhile."""
        with self._alone("cannot open the cache in {} again"):
            if self._generation != generation:
                return
            if isinstance(exc, DAMAGE):
                with self._layout.locked():
                    if self._current_identity() == self._identity:
                        self._warn(str(exc))
                        self._move_away()
            self._reopen()

    def _map_again(self, generation: int, map_bytes: int) -> None:
        """Map the file anew, in ``map_bytes``; 0 for the size another process gave it."""
        with self._alone("cannot use more of the cache in {}"):
            if self._generation == generation:
                self._lmdb().set_mapsize(map_bytes)
                self._map_bytes = max(self._map_bytes, map_bytes)
                self._generation += 1


def totals_in(transaction: lmdb.Transaction, tables: Tables) -> Totals:
    """The totals, as a ``look`` of ``Environment.view``."""
    return tables.totals_in(transaction)
