"""The index of a cache: which blob lies where, for all processes of the directory.

Looking takes no lock. A change is made by one thread of one process at a time, in memory, and written at its end. The
index is a help, not the truth: records and files say themselves what they are and are checked, so a lost or damaged
index costs time. It is put in a fresh place then, and filled in the background from what is there (``finding``).
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from fusepkg_cache.errors import CacheClosed
from fusepkg_cache.index_change import IndexChange
from fusepkg_cache.index_file import BlobIndexDamaged, IndexFile, create

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fusepkg_cache.index_page import IndexEntry, IndexHeader
    from fusepkg_cache.write_lock import WriteLock

log = logging.getLogger(__name__)

_ATTEMPTS = 5
"""Times something is tried while the index is replaced under it: two are the rule."""

_READ_PATIENCE_S = 0.2
"""How long a read waits for the write lock in order to mend what it found damaged."""

_T = TypeVar("_T")


class BlobIndex:
    """The index of one directory, for one process. ``prepare`` makes the directory again if somebody removed it."""

    def __init__(self, path: Path, lock: WriteLock, prepare: Callable[[], int]) -> None:
        self._path = path
        self._lock = lock
        self._prepare = prepare
        self._file: IndexFile | None = None
        self._closed = False
        self.when_lost: Callable[[], object] = lambda: None  # called when a fresh index took the place of a lost one
        with self._lock.held():
            self._open()

    # --- looking ------------------------------------------------------------------------------------------------

    def find(self, key: bytes) -> IndexEntry | None:
        """Where a blob lies; None if that is not known. Raises OSError, CacheUnusable."""
        for _ in range(_ATTEMPTS):
            file = self._opened()
            try:
                return file.lookup(key)
            except BlobIndexDamaged:
                if not self.refresh():
                    self._recover(_READ_PATIENCE_S)
        return None

    def header(self) -> IndexHeader:
        """Totals and counts. Raises OSError, CacheUnusable."""
        for _ in range(_ATTEMPTS):
            try:
                return self._opened().header()
            except BlobIndexDamaged:
                if not self.refresh():
                    self._recover(None)
        raise OSError(f"the index in {self._path} is replaced again and again")

    def runs(self, start: int = 0) -> Iterator[list[IndexEntry]]:
        """All entries, page by page; those that are moved meanwhile may be seen twice. Raises OSError."""
        number = start
        while number < self.header().pages:
            yield self.entries_in(number)
            number += 1

    def entries_in(self, number: int) -> list[IndexEntry]:
        """The entries of one page; none if it cannot be read just now."""
        file = self._opened()
        with suppress(BlobIndexDamaged):
            file.load_directory(file.header())
            return list(file.entries(number, lenient=True))
        return []

    def refresh(self) -> bool:
        """Open what has the index's name now; False if it is what was open already."""
        file = self._file
        if file is not None and self._is_current(file):
            return False
        with self._lock.held():
            if self._file is not file and self._file is not None:
                return True
            self._open()
        return True

    # --- changing -----------------------------------------------------------------------------------------------

    def change(self, make: Callable[[IndexChange], _T], patience_s: float | None = None) -> _T:
        """Let ``make`` change what is kept; every process sees it on return. It may run twice.

        Raises: CacheClosed, CacheUnusable if the lock cannot be had in time, OSError, what ``make`` raises: then
        nothing is changed.
        """
        for _ in range(_ATTEMPTS):
            with self._lock.held(patience_s):
                file = self._file
                if file is None or not self._is_current(file):
                    self._open()
                try:
                    change = IndexChange(self._opened())
                    made = make(change)
                    change.finish()
                except BlobIndexDamaged as exc:
                    self._replace(str(exc))
                    continue
                return made
        raise OSError(f"the index in {self._path} is damaged again and again")

    def wait_turn(self) -> None:
        """Wait for the change under way, of another process too. Raises as ``change`` does."""
        with self._lock.held():
            self._opened()

    def close(self) -> None:
        """Let go of the file, and of the lock's."""
        self._closed = True
        self._file = None
        self._lock.close()

    def forget(self) -> None:
        """In a forked child: close the copy."""
        if self._file is not None:
            self._file.forget()
        self._lock.forget()

    # --- inside -------------------------------------------------------------------------------------------------

    def _opened(self) -> IndexFile:
        if self._closed:
            raise CacheClosed(f"the cache in {self._path.parent} was closed")
        file = self._file
        if file is None:
            with self._lock.held():
                self._open()
            return self._opened()
        return file

    def _is_current(self, file: IndexFile) -> bool:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == file.identity

    def _open(self) -> None:
        """Open the index, a fresh one if there is none or a damaged one. Only with the lock held."""
        if self._closed:
            raise CacheClosed(f"the cache in {self._path.parent} was closed")
        self._file = None
        newest = self._prepare()
        for _ in range(_ATTEMPTS):
            try:
                file = IndexFile(self._path)
                header = file.header()
                if header.dirty:
                    file.repair(header)
                    header.dirty = 0
                    file.write_header(header)
                self._file = file
                return
            except FileNotFoundError:
                create(self._path, newest)
                self.when_lost()
            except BlobIndexDamaged as exc:
                self._warn(str(exc))
                create(self._path, newest)
                self.when_lost()
        raise OSError(f"the index in {self._path} is removed again and again")

    def _replace(self, wrong: str) -> None:
        """Put a fresh index in the place of a damaged one. Only with the lock held."""
        self._warn(wrong)
        damaged = self._file
        create(self._path, self._prepare())
        if damaged is not None:
            damaged.invalidate()
        self._file = IndexFile(self._path)
        self.when_lost()

    def _recover(self, patience_s: float | None) -> None:
        """Replace the index if it is damaged indeed, and not just being written or replaced by somebody else."""
        with self._lock.held(patience_s):
            file = self._file
            if file is None or not self._is_current(file):
                self._open()
                return
            try:
                header = file.header()
                file.splits = -1
                file.load_directory(header)
                for number in range(header.pages):
                    file.page(number)
            except BlobIndexDamaged as exc:
                self._replace(str(exc))

    def _warn(self, wrong: str) -> None:
        log.warning(
            "the index of the cache in %s is damaged (%s): it is made again from what is there",
            self._path.parent,
            wrong,
        )
