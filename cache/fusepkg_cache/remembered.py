"""Sums of large blobs that were read lately: with them a part-read is one open, one pread and one sum."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from fusepkg_cache.records import BLOCK_BYTES, SIZE_BYTES, SUM_BYTES, recorded_bytes, seed_of

if TYPE_CHECKING:
    from fusepkg_cache.digest import Digest

_MOST = 1024
"""Blobs: 8 GiB of chunks, with 1 MiB of sums."""

_LARGEST_RECORD_BYTES = 4096
"""Of a blob of 32 MiB."""

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW


class _Known(NamedTuple):
    """Where a blob lies, its size, and the sums of its blocks, seeded with ``seed``."""

    path: str
    size: int
    seed: int
    sums: bytes


class RememberedSums:
    """For one process. A name stands for one blob's bytes, and so for their sums, whoever puts it again.

    Files are opened at each read: a descriptor that is kept would hold the room of an evicted blob.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, _Known] = {}

    def remember(self, digest: Digest, key: bytes, path: str, record: bytes) -> None:
        """Remember the record of a blob that was just found right, unless it is a huge one's."""
        if len(record) > _LARGEST_RECORD_BYTES:
            return
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[key] = _Known(path, recorded_bytes(record), seed_of(digest), record[SIZE_BYTES:])

    def read(self, key: bytes, offset: int, length: int | None) -> bytes | None:
        """Return part of a blob, checked, fewer bytes at its end; None if it is not known, not there or damaged.

        Raises OSError.
        """
        known = self._known.get(key)
        if known is None:
            return None
        end = known.size if length is None else min(offset + length, known.size)
        if end <= offset:
            return None
        first = offset // BLOCK_BYTES
        start, stop = first * BLOCK_BYTES, min(-(-end // BLOCK_BYTES) * BLOCK_BYTES, known.size)
        try:
            descriptor = os.open(known.path, _FLAGS)
        except (FileNotFoundError, NotADirectoryError):
            self._known.pop(key, None)
            return None
        try:
            data = os.pread(descriptor, stop - start, start)
        finally:
            os.close(descriptor)
        if len(data) != stop - start or not _fit(data, known.seed, known.sums, first):
            self._known.pop(key, None)
            return None
        return data if offset == start and end == stop else data[offset - start : end - start]


def _fit(data: bytes, seed: int, sums: bytes, first: int) -> bool:
    """Return whether whole blocks, the first of that number, have the sums."""
    at = first * SUM_BYTES
    if len(data) <= BLOCK_BYTES:
        return xxhash.xxh3_64_digest(data, seed) == sums[at : at + SUM_BYTES]
    view = memoryview(data)
    found = [xxhash.xxh3_64_digest(view[at : at + BLOCK_BYTES], seed) for at in range(0, len(data), BLOCK_BYTES)]
    return b"".join(found) == sums[at : at + len(found) * SUM_BYTES]
