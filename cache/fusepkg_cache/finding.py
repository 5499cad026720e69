"""Finding blobs that the index lacks: files of killed writers, and everything once the index was lost."""

from __future__ import annotations

import fcntl
import os
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from fusepkg_cache.digest import compute_digest
from fusepkg_cache.index_page import SMALL, IndexEntry
from fusepkg_cache.records import digest_of, key_of
from fusepkg_cache.segment_format import BLOB, HEADER_BYTES
from fusepkg_cache.segments import sums_bytes

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from fusepkg_cache.files import BlobFiles
    from fusepkg_cache.index import BlobIndex
    from fusepkg_cache.index_change import IndexChange
    from fusepkg_cache.segments import SegmentRecord, Segments

FOUND_AT_ONCE = 1024
"""Files or records looked at between two changes."""


class Finder:
    """Looks for what the index lacks, for one directory. ``steps`` does a little with each ``next``."""

    def __init__(self, index: BlobIndex, segments: Segments, files: BlobFiles) -> None:
        self._index = index
        self._segments = segments
        self._files = files

    def steps(self, locked: Path) -> Generator[None]:
        """Find everything and note that; does nothing while another process is at it, which ``locked`` tells."""
        descriptor = os.open(locked, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            try:
                header = self._index.header()
                if not header.walked:
                    yield from self._find_records(header.segment)
                yield from self.find_files()
                self._index.change(_note_walked)
            finally:
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing does not, in a process that forked meanwhile
        finally:
            os.close(descriptor)

    def find_all_files(self) -> None:
        """Find files, all at once."""
        for _ in self.find_files():
            pass

    def find_files(self) -> Generator[None]:
        """Note the sizes of files without an entry. Their sums are found, as those of any file, when they are read."""
        files = iter(self._files)
        while some := list(islice(files, FOUND_AT_ONCE)):
            found = []
            for digest in some:
                if self._index.find(key_of(digest)) is None:
                    try:
                        status = os.stat(self._files.path(digest))
                    except FileNotFoundError:
                        continue
                    found.append((key_of(digest), status.st_size, int(status.st_mtime)))
            if found:
                self._index.change(partial(_put_files, found=found))
            yield

    def _find_records(self, newest: int) -> Generator[None]:
        """Note the records of all segments up to ``newest``, the newest of a blob first."""
        for number in reversed([number for number in self._segments.numbers() if number <= newest]):
            try:
                used = self._segments.mtime_s(number)
                records = self._segments.records(number)
                while some := list(islice(records, FOUND_AT_ONCE)):
                    sound = [record for record in some if record.reached or self._is_whole(number, record)]
                    self._index.change(
                        partial(_put_records, number=number, records=sound, used=used, files=self._files)
                    )
                    yield
            except FileNotFoundError:
                continue

    def _is_whole(self, number: int, record: SegmentRecord) -> bool:
        """Whether a record is what it says, hashed in full: one behind damage may be part of a blob's own bytes."""
        digest = digest_of(record.key)
        if digest is None or digest.algorithm.weak or record.kind != BLOB:
            return False
        data = self._segments.raw(number, record.offset, record.length)[HEADER_BYTES:]
        return digest.matches(compute_digest(digest.algorithm, data))


def _put_files(change: IndexChange, found: list[tuple[bytes, int, int]]) -> None:
    for key, size, used in found:
        if change.find(key) is None:
            change.put_large(key, size, used=used)


def _put_records(change: IndexChange, number: int, records: list[SegmentRecord], used: int, files: BlobFiles) -> None:
    for record in records:
        digest = digest_of(record.key)
        if digest is None or change.find(record.key) is not None:
            continue
        if record.kind == BLOB:
            change.put(IndexEntry(record.key, SMALL, number, record.offset, record.length, used))
        else:
            size = files.size(digest)
            if size is not None and sums_bytes(size) == record.length:
                change.put_large(record.key, size, number, record.offset, used)


def _note_walked(change: IndexChange) -> None:
    change.header.walked = change.now
