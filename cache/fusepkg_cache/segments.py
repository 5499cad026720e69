"""Segment files: small blobs and block sums, appended one after the other, read with pread.

The newest segment is appended to by the holder of the write lock; the index says where it ends. What a killed
process leaves behind that end is written over. Segments are never synced, and never changed but for marking a record
as removed; a whole segment is dropped at once, cut off first, so that its room is free although others have it open.
"""

from __future__ import annotations

import os
import re
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from fusepkg_cache import segment_format
from fusepkg_cache.index_page import SMALL
from fusepkg_cache.records import BLOCK_BYTES, SIZE_BYTES, SUM_BYTES
from fusepkg_cache.segment_format import (
    ALIGN_BYTES,
    BLOB,
    BLOCK_SUMS,
    HEADER_BYTES,
    MAGIC,
    RECORD_MAGIC,
    parse_header,
    payload_of,
    record_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from fusepkg_cache.digest import Digest
    from fusepkg_cache.index_page import IndexEntry, IndexHeader

SEGMENT_BYTES = 64 * 1024 * 1024
"""Size of a segment: dropping one takes tens of milliseconds, and a terabyte has 16,000."""

SMALLEST_SEGMENT_BYTES = 16 * 1024
SEGMENTS_PER_BOUND = 64
"""A cache with a bound has segments of at most this part of it, so that dropping one frees little more than needed."""

_OPEN_AT_ONCE = 64
"""Descriptors kept for reading: opening costs some 5 us."""

_RECORDS_AT_ONCE = 300
"""Records written with one call, of at most 1024 pieces."""

_SEARCH_BYTES = 1 << 20
"""Read at once where a damaged header is searched past."""

_NAME = re.compile(r"[0-9a-f]{8}")


class _Open:
    """An open segment, closed after its last use."""

    __slots__ = ("descriptor",)

    def __init__(self, path: str, flags: int) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class SegmentRecord(NamedTuple):
    """A record found in a segment. ``reached`` says that every header before it was sound."""

    offset: int
    kind: int
    key: bytes
    length: int
    reached: bool


class Segments:
    """The segments of one directory, for one process."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: dict[int, _Open] = {}
        self._lock = threading.Lock()
        self.limit_bytes = SEGMENT_BYTES

    def limit(self, max_bytes: int) -> None:
        """Make segments small enough for a cache of ``max_bytes``."""
        fitting = max(SMALLEST_SEGMENT_BYTES, max_bytes // SEGMENTS_PER_BOUND)
        self.limit_bytes = min(self.limit_bytes, fitting)

    def numbers(self) -> list[int]:
        """The segments there are, oldest first."""
        try:
            names = os.listdir(self._directory)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(int(name, 16) for name in names if _NAME.fullmatch(name))

    def size(self, number: int) -> int:
        """The size of a segment's file; 0 if there is none."""
        try:
            return os.stat(self._path(number)).st_size
        except (FileNotFoundError, NotADirectoryError):
            return 0

    def mtime_s(self, number: int) -> int:
        """When a segment was last written."""
        return int(os.stat(self._path(number)).st_mtime)

    def read(self, entry: IndexEntry, digest: Digest) -> bytes | None:
        """The payload that an index entry leads to, checked; None if it is damaged, or no longer there.

        Raises OSError.
        """
        kind, length = (BLOB, entry.length) if entry.kind == SMALL else (BLOCK_SUMS, sums_bytes(entry.length))
        for fresh in (False, True):
            opened = self._opened(entry.segment, fresh=fresh)
            if opened is None:
                return None
            record = os.pread(opened.descriptor, HEADER_BYTES + length, entry.offset)
            payload = payload_of(record, kind, digest, entry.key, length)
            if payload is not None:
                return payload
        return None

    def exists(self, entry: IndexEntry) -> bool:
        """Whether the segment of an entry is there at all."""
        return os.path.exists(self._path(entry.segment))

    def records(self, number: int) -> Iterator[SegmentRecord]:
        """The records of a segment, in order, removed ones left out. Raises OSError."""
        opened = self._opened(number, fresh=True)
        if opened is None:
            return
        descriptor = opened.descriptor
        size = os.fstat(descriptor).st_size
        at, reached = len(MAGIC), True
        while at + HEADER_BYTES <= size:
            found = parse_header(os.pread(descriptor, HEADER_BYTES, at))
            if found is None or at + HEADER_BYTES + found.length > size:
                reached = False
                at = _next_record(descriptor, at + ALIGN_BYTES, size)
                continue
            if found.kind in (BLOB, BLOCK_SUMS):
                yield SegmentRecord(at, found.kind, found.key, found.length, reached)
            at += record_bytes(found.length)

    def raw(self, number: int, offset: int, length: int) -> bytes:
        """Header and payload of a record as they are. Raises OSError."""
        opened = self._opened(number)
        return b"" if opened is None else os.pread(opened.descriptor, HEADER_BYTES + length, offset)

    # --- writing: only with the write lock held -------------------------------------------------------------------

    def append(self, header: IndexHeader, records: Sequence[tuple[bytes, bytes, bytes]]) -> list[tuple[int, int]]:
        """Write records (header, payload, padding) behind the newest segment's end; the place of each.

        Raises OSError; then nothing is kept.
        """
        places: list[tuple[int, int]] = []
        pieces: list[bytes] = []
        opened = self._newest(header)
        at = header.end
        for record in records:
            if at > len(MAGIC) and at + len(record[0]) + len(record[1]) > self.limit_bytes:
                self._write(opened, pieces, header.end, at)
                opened = self._roll(header)
                pieces, at = [], header.end
            elif len(pieces) >= 3 * _RECORDS_AT_ONCE:
                self._write(opened, pieces, header.end, at)
                header.end, pieces = at, []
            places.append((header.segment, at))
            pieces += record
            at += len(record[0]) + len(record[1]) + len(record[2])
        self._write(opened, pieces, header.end, at)
        header.end = at
        return places

    def mark_removed(self, entry: IndexEntry) -> None:
        """Mark a record as removed, so that it is not found again when the index is lost. Raises OSError."""
        opened = self._opened(entry.segment)
        if opened is None:
            return
        found = parse_header(os.pread(opened.descriptor, HEADER_BYTES, entry.offset))
        if found is not None and found.key == entry.key:
            marked = segment_format.header(segment_format.REMOVED, found.key, found.length, found.total)
            os.pwrite(opened.descriptor, marked, entry.offset)

    def drop(self, number: int) -> None:
        """Remove a segment and free its room, although others may have it open."""
        path = self._path(number)
        with self._lock:
            self._open.pop(number, None)
        with suppress(FileNotFoundError, NotADirectoryError):
            os.truncate(path, 0)
            os.unlink(path)

    def close(self) -> None:
        """Let go of all files."""
        with self._lock:
            self._open.clear()

    def forget(self) -> None:
        """In a forked child: close the copies."""
        for opened in self._open.values():
            opened.__del__()
        self._open.clear()
        self._lock = threading.Lock()

    # --- inside -------------------------------------------------------------------------------------------------

    def _path(self, number: int) -> str:
        return f"{self._directory}/{number:08x}"

    def _opened(self, number: int, *, fresh: bool = False) -> _Open | None:
        opened = None if fresh else self._open.get(number)
        if opened is None:
            try:
                opened = _Open(self._path(number), os.O_RDWR)
            except (FileNotFoundError, NotADirectoryError):
                return None
            self._remember(number, opened)
        return opened

    def _remember(self, number: int, opened: _Open) -> None:
        with self._lock:
            while len(self._open) >= _OPEN_AT_ONCE:
                del self._open[next(iter(self._open))]
            self._open[number] = opened

    def _newest(self, header: IndexHeader) -> _Open:
        if len(MAGIC) <= header.end < self.limit_bytes:
            opened = self._opened(header.segment)
            if opened is not None and os.fstat(opened.descriptor).st_nlink and os.fstat(opened.descriptor).st_size:
                return opened
        return self._roll(header)

    def _roll(self, header: IndexHeader) -> _Open:
        """Begin a new segment."""
        while True:
            header.segment += 1
            try:
                opened = _Open(self._path(header.segment), os.O_RDWR | os.O_CREAT | os.O_EXCL)
                break
            except FileExistsError:  # the index is older than the segments
                continue
            except FileNotFoundError:
                self._directory.mkdir(mode=0o700, exist_ok=True)
                header.segment -= 1
        os.pwrite(opened.descriptor, MAGIC, 0)
        self._remember(header.segment, opened)
        header.end = len(MAGIC)
        return opened

    def _write(self, opened: _Open, pieces: list[bytes], at: int, end: int) -> None:
        if not pieces:
            return
        try:
            written = os.pwritev(opened.descriptor, pieces, at)
            if written < end - at:
                rest = b"".join(pieces)[written:]
                while rest:
                    more = os.pwrite(opened.descriptor, rest, end - len(rest))
                    rest = rest[more:]
        except OSError:
            with suppress(OSError):
                os.truncate(opened.descriptor, at)
            raise


def sums_bytes(blob_bytes: int) -> int:
    """The length of the payload that has the block sums of a blob."""
    return SIZE_BYTES + -(-blob_bytes // BLOCK_BYTES) * SUM_BYTES


def _next_record(descriptor: int, start: int, size: int) -> int:
    """Where the next record may begin at or after ``start``; ``size`` if nowhere."""
    at = start
    while at < size:
        data = os.pread(descriptor, _SEARCH_BYTES, at)
        found = data.find(RECORD_MAGIC)
        while found >= 0 and (at + found) % ALIGN_BYTES:
            found = data.find(RECORD_MAGIC, found + 1)
        if found >= 0:
            return at + found
        if len(data) < _SEARCH_BYTES:
            break
        at += len(data)
    return size
