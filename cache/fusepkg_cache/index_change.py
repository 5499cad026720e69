"""One change of the index, made in memory and written at its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fusepkg_cache.index_file import BlobIndexDamaged, count_entry
from fusepkg_cache.index_page import (
    LARGE,
    SMALL,
    IndexEntry,
    covers,
    entry_at,
    hash_of,
    is_full,
    place_in,
    put_entry,
    remove_entry,
    set_used,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fusepkg_cache.index_file import IndexFile
    from fusepkg_cache.index_page import IndexHeader
    from fusepkg_cache.records import Counts

_PAGES_IN_MEMORY = 1024
"""Changed pages after which they are written: 4 MiB."""


class IndexChange:
    """What one holder of the write lock does. ``header`` is right at every moment."""

    def __init__(self, file: IndexFile) -> None:
        """Begin. Raises OSError, BlobIndexDamaged."""
        self._file = file
        self.header: IndexHeader = file.header()
        if self.header.dirty:
            file.repair(self.header)
        file.load_directory(self.header)
        self._before = self.header.held_bytes
        self._packed = self.header.packed()
        self._pages: dict[int, bytearray] = {}
        self._changed: set[int] = set()
        self._afterwards: list[Callable[[], object]] = []
        self.now = int(time.time())

    @property
    def held_bytes(self) -> int:
        """The bytes of all blobs."""
        return self.header.held_bytes

    @property
    def added_bytes(self) -> int:
        """By how much this change has raised that."""
        return self.header.held_bytes - self._before

    def find(self, key: bytes) -> IndexEntry | None:
        """Where a blob lies. Raises OSError, BlobIndexDamaged."""
        page = self._page_for(key)[1]
        at = place_in(page, key)
        return None if at < 0 else entry_at(page, at)

    def put(self, entry: IndexEntry) -> None:
        """Keep an entry, in place of what its key had. Raises OSError, BlobIndexDamaged."""
        while True:
            number, page = self._page_for(entry.key)
            at = place_in(page, entry.key)
            if at >= 0 or not is_full(page):
                break
            self._split(number, page)
        if at >= 0:
            count_entry(self.header, entry_at(page, at), -1)
        put_entry(page, at, entry)
        count_entry(self.header, entry, 1)
        self._note(number)

    def put_small(self, key: bytes, segment: int, offset: int, length: int) -> None:
        """Keep a small blob whose record is there, used now."""
        self.put(IndexEntry(key, SMALL, segment, offset, length, self.now))

    def put_large(self, key: bytes, length: int, segment: int = 0, offset: int = 0, used: int | None = None) -> None:
        """Keep a blob that lies in a file; its block sums are in that segment, or not known."""
        self.put(IndexEntry(key, LARGE, segment, offset, length, self.now if used is None else used))

    def drop(self, key: bytes) -> IndexEntry | None:
        """Drop an entry; what it was."""
        number, page = self._page_for(key)
        at = place_in(page, key)
        if at < 0:
            return None
        entry = entry_at(page, at)
        remove_entry(page, at)
        count_entry(self.header, entry, -1)
        self._note(number)
        return entry

    def use(self, keys: Iterable[bytes], at_least_s: int) -> None:
        """Note that blobs were used just now; those noted less than ``at_least_s`` ago stay as they are."""
        for key in keys:
            number, page = self._page_for(key)
            at = place_in(page, key)
            if at >= 0 and self.now - entry_at(page, at).used >= at_least_s:
                set_used(page, at, self.now)
                self._note(number)

    def entries_in(self, number: int) -> list[IndexEntry]:
        """The entries of one page."""
        page = self._pages.get(number)
        return list(self._file.entries(number) if page is None else self._file.found_in(page, number))

    def count(self, more: Counts) -> None:
        """Add to the counts."""
        for name, number in more.items():
            setattr(self.header, name, getattr(self.header, name) + number)

    def recount(self) -> None:
        """Count all entries again, before anything else is changed.

        The disk may have kept pages and counts of different moments when the power went, as a copy of a busy cache
        does.
        """
        self._begin()
        self._file.repair(self.header)

    def afterwards(self, do: Callable[[], object]) -> None:
        """Do this once the change is written."""
        self._afterwards.append(do)

    def empty(self) -> None:
        """Drop all entries, at once."""
        self._pages.clear()
        self._changed.clear()
        self._file.empty(self.header)
        self.header = self._file.header()
        self._file.load_directory(self.header)

    def finish(self) -> None:
        """Write the change. Raises OSError."""
        if self._changed or self.header.dirty or self.header.packed() != self._packed:
            self._write_pages()
            self.header.dirty = 0
            self.header.changes += 1
            self._file.write_header(self.header)
        for do in self._afterwards:
            do()

    # --- inside -------------------------------------------------------------------------------------------------

    def _page_for(self, key: bytes) -> tuple[int, bytearray]:
        hashed = hash_of(key, self._file.secret)
        number = self._file.slots[hashed & self._file.mask]
        page = self._pages.get(number)
        if page is None:
            page = self._pages[number] = bytearray(self._file.page(number))
        if not covers(page, hashed):
            raise BlobIndexDamaged(f"page {number} has the keys of another one")
        return number, page

    def _note(self, number: int) -> None:
        self._changed.add(number)
        if len(self._changed) > _PAGES_IN_MEMORY:
            self._write_pages()

    def _write_pages(self) -> None:
        if not self._changed:
            return
        self._begin()
        for number in self._changed:
            self._file.write_page(number, self._pages[number])
        self._changed.clear()
        self._pages.clear()

    def _begin(self) -> None:
        if not self.header.dirty:
            self.header.dirty = 1
            self._file.write_header(self.header)

    def _split(self, number: int, page: bytearray) -> None:
        self._begin()
        self._file.split(self.header, number, page)
        self._pages.pop(number, None)
        self._changed.discard(number)
