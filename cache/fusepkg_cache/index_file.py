"""One opened index file: reading and writing its header, directory and pages, with pread and pwrite.

Nothing is mapped, so a file that is cut off, or whose disk fails, raises an error and never SIGBUS. Readers take no
lock: a page that is just being written fails its sum and is read again.
"""

from __future__ import annotations

import os
import secrets
import struct
from array import array
from typing import TYPE_CHECKING

from fusepkg_cache.index_page import (
    DIRECTORY_AT,
    HEADER_BYTES,
    LARGE,
    MAX_DEPTH,
    PAGE_BYTES,
    PAGES_AT,
    SMALL,
    IndexHeader,
    covers,
    entries_of,
    entry_at,
    hash_of,
    is_sound,
    new_page,
    packed_entries,
    page_head,
    parse_header,
    place_in,
    sealed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fusepkg_cache.index_page import IndexEntry

_SLOT = struct.Struct("<I")

READ_AGAIN = 8
"""Tries for a page or header that somebody is just writing."""


class BlobIndexDamaged(Exception):
    """The index makes no sense; it is made again from the segments and files."""


class IndexFile:
    """An index file, open for as long as this object lives. ``slots`` is the directory as it was when it was read."""

    def __init__(self, path: Path) -> None:
        """Open ``path``. Raises OSError, BlobIndexDamaged."""
        self._descriptor = -1
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        found = os.fstat(self._descriptor)
        self.identity = (found.st_dev, found.st_ino)
        self.splits = -1
        self.load_directory(self.header())

    def __del__(self) -> None:
        """Close it: not sooner, for another thread may be reading."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def forget(self) -> None:
        """In a forked child: close the copy."""
        self.__del__()

    def header(self) -> IndexHeader:
        """The header as it is now. Raises OSError, BlobIndexDamaged."""
        for _ in range(READ_AGAIN):
            found = parse_header(os.pread(self._descriptor, HEADER_BYTES, 0))
            if found is not None:
                return found
        raise BlobIndexDamaged("its header is damaged")

    def load_directory(self, header: IndexHeader) -> None:
        """Read the directory, if it changed. Raises OSError, BlobIndexDamaged."""
        if header.splits == self.splits:
            return
        if not 0 <= header.depth <= MAX_DEPTH:
            raise BlobIndexDamaged(f"it claims {header.depth} bits of directory")
        data = os.pread(self._descriptor, 4 << header.depth, DIRECTORY_AT)
        if len(data) != 4 << header.depth:
            raise BlobIndexDamaged("its directory is cut off")
        self.secret, self.mask = header.secret, (1 << header.depth) - 1
        self.slots = array("I", data)
        self.splits = header.splits

    def page(self, number: int) -> bytes:
        """A page, checked. Raises OSError, BlobIndexDamaged."""
        for _ in range(READ_AGAIN):
            data = os.pread(self._descriptor, PAGE_BYTES, PAGES_AT + number * PAGE_BYTES)
            if is_sound(data):
                return data
        raise BlobIndexDamaged(f"page {number} is damaged")

    def page_for(self, hashed: int) -> tuple[int, bytes]:
        """Number and bytes of the page that has the keys of a hash. Raises OSError, BlobIndexDamaged."""
        for _ in range(READ_AGAIN):
            try:
                number = self.slots[hashed & self.mask]
                data = self.page(number)
                if covers(data, hashed):
                    return number, data
            except (BlobIndexDamaged, IndexError):
                pass  # cut off or split meanwhile, perhaps
            self.splits = -1
            self.load_directory(self.header())
        raise BlobIndexDamaged("its directory and its pages do not fit")

    def lookup(self, key: bytes) -> IndexEntry | None:
        """The entry of a key; None if there is none. Raises OSError, BlobIndexDamaged."""
        hashed = hash_of(key, self.secret)
        try:
            at = PAGES_AT + self.slots[hashed & self.mask] * PAGE_BYTES
            page = os.pread(self._descriptor, PAGE_BYTES, at)
        except IndexError:  # it was split just now
            page = b""
        if not is_sound(page) or not covers(page, hashed):
            page = self.page_for(hashed)[1]
        place = place_in(page, key)
        return None if place < 0 else entry_at(page, place)

    def entries(self, number: int, *, lenient: bool = False) -> Iterator[IndexEntry]:
        """The entries of a page that are found through the directory. Raises OSError, BlobIndexDamaged.

        ``lenient`` gives none of a page that cannot be read.
        """
        try:
            page = self.page(number)
        except (BlobIndexDamaged, OSError):
            if not lenient:
                raise
            return
        yield from self.found_in(page, number)

    def found_in(self, page: bytes | bytearray, number: int) -> Iterator[IndexEntry]:
        """The entries of a page that are found through the directory."""
        for entry in entries_of(page):
            if self.slots[hash_of(entry.key, self.secret) & self.mask] == number:
                yield entry

    # --- writing: only with the write lock held --------------------------------------------------------------------

    def write_header(self, header: IndexHeader) -> None:
        """Write the header."""
        self._write(header.packed(), 0)

    def write_page(self, number: int, page: bytearray) -> None:
        """Write a page, with its sum."""
        self._write(sealed(page), PAGES_AT + number * PAGE_BYTES)

    def split(self, header: IndexHeader, number: int, page: bytes | bytearray) -> None:
        """Move half of a page's entries to a new one. Killed in between, every entry is still found.

        Raises BlobIndexDamaged if the page cannot be split further: 2^22 pages are enough for 190 million blobs.
        """
        depth, prefix, _ = page_head(page)
        if depth >= header.depth:
            self._double(header)
        halves: tuple[list[bytes], list[bytes]] = ([], [])
        for packed in packed_entries(page):
            halves[hash_of(packed[:33], self.secret) >> depth & 1].append(packed)
        new, other_prefix = header.pages, prefix | 1 << depth
        self.write_page(new, new_page(depth + 1, other_prefix, halves[1]))
        header.pages += 1
        for slot in range(other_prefix, 1 << header.depth, 2 << depth):
            self.slots[slot] = new
            self._write(_SLOT.pack(new), DIRECTORY_AT + slot * _SLOT.size)
        self.write_page(number, new_page(depth + 1, prefix, halves[0]))
        header.splits += 1
        self.splits = header.splits

    def _double(self, header: IndexHeader) -> None:
        if header.depth >= MAX_DEPTH:
            raise BlobIndexDamaged("it is full")
        slots = self.slots + self.slots
        self._write(self.slots.tobytes(), DIRECTORY_AT + len(self.slots) * _SLOT.size)
        header.depth += 1
        header.splits += 1
        self.write_header(header)
        self.slots, self.mask, self.splits = slots, len(slots) - 1, header.splits

    def repair(self, header: IndexHeader) -> None:
        """Repair the index after a process was killed while changing it, and count its entries again."""
        self.splits = -1
        self.load_directory(header)
        size = os.fstat(self._descriptor).st_size
        header.pages = max(header.pages, (size - PAGES_AT) // PAGE_BYTES)
        header.small_bytes = header.small_blobs = header.large_bytes = header.large_blobs = 0
        for number, slots in self._slots_of_pages().items():
            page = self.page(number)
            depth = header.depth - (len(slots).bit_length() - 1)
            mine = [
                packed
                for packed in packed_entries(page)
                if self.slots[hash_of(packed[:33], self.secret) & self.mask] == number
            ]
            fixed = new_page(depth, slots[0] & ((1 << depth) - 1), mine)
            if sealed(fixed) != page:
                self.write_page(number, fixed)
            for entry in entries_of(fixed):
                count_entry(header, entry, 1)

    def _slots_of_pages(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for slot, number in enumerate(self.slots):
            found.setdefault(number, []).append(slot)
        return found

    def empty(self, header: IndexHeader) -> None:
        """Drop all entries. The file keeps its name; what others know of its directory no longer fits."""
        fresh = IndexHeader(
            header.secret, splits=header.splits + 1, changes=header.changes, segment=header.segment, end=header.end
        )
        for name in ("verification_failures", "evictions", "evicted_bytes"):
            setattr(fresh, name, getattr(header, name))
        for name in ("small_hits", "large_hits", "lower_hits", "misses"):
            setattr(fresh, name, getattr(header, name))
        os.truncate(self._descriptor, PAGES_AT)
        self._write(_SLOT.pack(0), DIRECTORY_AT)
        self.write_page(0, new_page(0, 0, []))
        self.write_header(fresh)

    def invalidate(self) -> None:
        """Truncate the file, so that processes which have it open see that it was replaced."""
        os.truncate(self._descriptor, 0)

    def _write(self, data: bytes | bytearray, at: int) -> None:
        if os.pwrite(self._descriptor, data, at) != len(data):
            os.pwrite(self._descriptor, data, at)  # the disk is full: this says so
            raise BlobIndexDamaged("a write was cut short")


def count_entry(header: IndexHeader, entry: IndexEntry, sign: int) -> None:
    """Add an entry to the totals, or take it out of them."""
    if entry.kind == SMALL:
        header.small_bytes = max(0, header.small_bytes + sign * entry.length)
        header.small_blobs = max(0, header.small_blobs + sign)
    elif entry.kind == LARGE:
        header.large_bytes = max(0, header.large_bytes + sign * entry.length)
        header.large_blobs = max(0, header.large_blobs + sign)


def create(path: Path, segment: int) -> None:
    """Write an empty index under a name of its own and give it ``path``. ``segment`` is the newest there is."""
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        header = IndexHeader(int.from_bytes(secrets.token_bytes(8), "little"), segment=segment, end=1 << 62)
        os.pwrite(descriptor, _SLOT.pack(0), DIRECTORY_AT)
        os.pwrite(descriptor, sealed(new_page(0, 0, [])), PAGES_AT)
        os.pwrite(descriptor, header.packed(), 0)
        unfinished.rename(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
