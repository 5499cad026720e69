"""Keys of blobs, block sums of large ones, and counts.

Every sum is xxh3_64, seeded with the first bytes of the digest: bytes that got under another blob's key fail their
check even where they are whole. (The digest is checked when a blob comes in. On the way out the question is whether
these are still those bytes, and xxh3 answers it at a hundredth of the cost.)
"""

from __future__ import annotations

import struct
from dataclasses import asdict, astuple, dataclass
from typing import TYPE_CHECKING

import xxhash

from fusepkg_cache.digest import DIGEST_BYTES, Algorithm, Digest

if TYPE_CHECKING:
    from collections.abc import Iterable

KEY_BYTES = 1 + DIGEST_BYTES
"""One byte for the algorithm, then the raw hash."""

SIZE_BYTES = 8

SUM_BYTES = 8
"""Length of an xxh3_64 sum, big-endian as xxhash writes it."""

BLOCK_BYTES = 64 * 1024
"""What one sum of a large blob covers: an 8 MiB chunk has a record of 1 KiB, a small part-read checks 64 KiB."""

_CODES = {
    Algorithm.SHA2_256: b"\x01",
    Algorithm.SHA2_256_CHUNKED: b"\x02",
    Algorithm.CRC64NVME: b"\x03",
    Algorithm.MD5: b"\x04",
    Algorithm.MD5_DOS2UNIX: b"\x05",
}
_ALGORITHMS = {code: algorithm for algorithm, code in _CODES.items()}
_SIZE = struct.Struct("<Q")


def key_of(digest: Digest) -> bytes:
    """The key of a blob in the index."""
    return _CODES[digest.algorithm] + digest.value


def digest_of(key: bytes) -> Digest | None:
    """The blob of a key; None for a key of no known form."""
    algorithm = _ALGORITHMS.get(key[:1])
    if algorithm is None or len(key) != KEY_BYTES:
        return None
    return Digest(algorithm, key[1:])


def seed_of(digest: Digest) -> int:
    """The seed of all sums of a blob."""
    front = int.from_bytes(digest.value[:8], "big")
    if digest.algorithm.weak:  # the same checksum in another scope is another blob
        front ^= int.from_bytes(digest.value[len(digest.computed) :][:8], "big")
    return front


def block_sums(digest: Digest, data: bytes | memoryview) -> bytes:
    """The sums of consecutive blocks, one after the other; the last block may be short."""
    seed, view = seed_of(digest), memoryview(data)
    return b"".join(
        [xxhash.xxh3_64_digest(view[at : at + BLOCK_BYTES], seed) for at in range(0, len(view), BLOCK_BYTES)]
    )


@dataclass(frozen=True, slots=True)
class BlockSpan:
    """The blocks a part of a large blob lies in: their place in the file, and their sums.

    ``blob_bytes`` is the size the file must have; ``stop`` is at most that.
    """

    blob_bytes: int
    start: int
    stop: int
    sums: bytes


def record_of(digest: Digest, data: bytes) -> bytes:
    """The record of a large blob: its size, then the sums of its blocks."""
    return record(len(data), block_sums(digest, data))


def record(blob_bytes: int, sums: bytes) -> bytes:
    """The record of a large blob whose sums are known."""
    return _SIZE.pack(blob_bytes) + sums


def recorded_bytes(value: bytes | memoryview) -> int:
    """The size of the blob a record is of; 0 where it is too short to say."""
    size: int = _SIZE.unpack_from(value)[0] if len(value) >= _SIZE.size else 0
    return size


def span_of(value: bytes | memoryview, offset: int, length: int | None) -> BlockSpan | None:
    """The blocks that ``length`` bytes from ``offset`` touch; all from there on for None. None for a damaged record."""
    size = recorded_bytes(value)
    if len(value) != _SIZE.size + -(-size // BLOCK_BYTES) * SUM_BYTES:
        return None
    end = size if length is None else min(offset + length, size)
    if offset >= end:
        return BlockSpan(size, size, size, b"")
    first, last = offset // BLOCK_BYTES, -(-end // BLOCK_BYTES)
    sums = bytes(value[_SIZE.size + first * SUM_BYTES : _SIZE.size + last * SUM_BYTES])
    return BlockSpan(size, first * BLOCK_BYTES, min(last * BLOCK_BYTES, size), sums)


@dataclass(frozen=True, slots=True)
class Counts:
    """What has happened since counts were last written."""

    evictions: int = 0
    evicted_bytes: int = 0
    small_hits: int = 0
    large_hits: int = 0
    lower_hits: int = 0
    misses: int = 0

    def items(self) -> Iterable[tuple[str, int]]:
        """Each count by its name."""
        return asdict(self).items()

    def __add__(self, more: Counts) -> Counts:
        return Counts(*map(sum, zip(astuple(self), astuple(more), strict=True)))
