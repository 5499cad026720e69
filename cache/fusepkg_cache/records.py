"""The bytes of what LMDB keeps: keys, small blobs, block sums of large ones, totals.

Owns: the encodings, which ``tests/golden/cache_layout.txt`` pins, and checking a value against its sums. Must not
know: LMDB, files.

Every sum is xxh3_64, seeded with the first bytes of the digest: a value or record that got under another blob's key,
by damage to a page of LMDB for instance, fails its check even where its own bytes are whole. (SHA-256 is checked when
a blob comes in. On the way out the question is whether these are still those bytes, and xxh3 answers it at a
hundredth of the cost.)
"""

from __future__ import annotations

import struct
from dataclasses import astuple, dataclass, fields

import xxhash

from fusepkg_cache.digest import DIGEST_BYTES, Algorithm, Digest

SUM_BYTES = 8
"""Length of an xxh3_64 sum, big-endian as xxhash writes it."""

BLOCK_BYTES = 64 * 1024
"""What one sum of a large blob covers: an 8 MiB chunk has a record of 1 KiB, a small part-read checks 64 KiB."""

_CODES = {Algorithm.SHA2_256: b"\x01", Algorithm.SHA2_256_CHUNKED: b"\x02", Algorithm.CRC64NVME: b"\x03"}
_ALGORITHMS = {code: algorithm for algorithm, code in _CODES.items()}
_SIZE = struct.Struct("<Q")
_USED = struct.Struct("<Q")
_TOTALS = struct.Struct("<QQQ")
_NUMBER = struct.Struct("<Q")


def key_of(digest: Digest) -> bytes:
    """The key of a blob in LMDB: one byte for the algorithm, then the raw hash."""
    return _CODES[digest.algorithm] + digest.value


def digest_of(key: bytes) -> Digest | None:
    """The blob of a key; None for a key of no known form."""
    algorithm = _ALGORITHMS.get(key[:1])
    if algorithm is None or len(key) != 1 + DIGEST_BYTES:
        return None
    return Digest(algorithm, key[1:])


def _seed(digest: Digest) -> int:
    front = int.from_bytes(digest.value[:8], "big")
    if digest.algorithm.weak:  # the same checksum in another scope is another blob
        front ^= int.from_bytes(digest.value[8:16], "big")
    return front


def seal(digest: Digest, data: bytes) -> bytes:
    """The value of a small blob: the sum of the data, then the data."""
    return xxhash.xxh3_64_digest(data, _seed(digest)) + data


def sealed_bytes(value: bytes | memoryview) -> int:
    """The size of the small blob a value is of; 0 where it is too short to say."""
    return max(0, len(value) - SUM_BYTES)


def split(value: bytes | memoryview) -> tuple[bytes, bytes]:
    """The sum and the data of a small blob's value, copied."""
    return bytes(value[:SUM_BYTES]), bytes(value[SUM_BYTES:])


def unseal(digest: Digest, total: bytes, data: bytes) -> bool:
    """Whether ``data`` still has the sum it was stored with."""
    return xxhash.xxh3_64_digest(data, _seed(digest)) == total


def block_sums(digest: Digest, data: bytes | memoryview) -> bytes:
    """The sums of consecutive blocks, one after the other; the last block may be short."""
    seed, view = _seed(digest), memoryview(data)
    return b"".join(
        [xxhash.xxh3_64_digest(view[at : at + BLOCK_BYTES], seed) for at in range(0, len(view), BLOCK_BYTES)]
    )


@dataclass(frozen=True, slots=True)
class Span:
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


def size_only(blob_bytes: int) -> bytes:
    """The record of a large blob whose sums are not known yet."""
    return _SIZE.pack(blob_bytes)


def recorded_bytes(value: bytes | memoryview) -> int:
    """The size of the blob a record is of; 0 where it is too short to say."""
    size: int = _SIZE.unpack_from(value)[0] if len(value) >= _SIZE.size else 0
    return size


def span_of(value: bytes | memoryview, offset: int, length: int | None) -> Span | None:
    """The blocks that ``length`` bytes from ``offset`` touch; all from there on for None. None for a damaged record."""
    size = recorded_bytes(value)
    if len(value) != _SIZE.size + -(-size // BLOCK_BYTES) * SUM_BYTES:
        return None
    end = size if length is None else min(offset + length, size)
    if offset >= end:
        return Span(size, size, size, b"")
    first, last = offset // BLOCK_BYTES, -(-end // BLOCK_BYTES)
    sums = bytes(value[_SIZE.size + first * SUM_BYTES : _SIZE.size + last * SUM_BYTES])
    return Span(size, first * BLOCK_BYTES, min(last * BLOCK_BYTES, size), sums)


def packed_use(when: int) -> bytes:
    """When a blob was used, in seconds of Unix time, as LMDB keeps it."""
    return _USED.pack(when)


def used_from(value: bytes | memoryview | None) -> int:
    """When a blob was used; 0 where that is not known."""
    when: int = _USED.unpack(value)[0] if value is not None and len(value) == _USED.size else 0
    return when


@dataclass(frozen=True, slots=True)
class Totals:
    """What is kept up to date with every change, so that nobody has to scan."""

    small_bytes: int = 0
    large_bytes: int = 0
    verification_failures: int = 0

    def packed(self) -> bytes:
        """As LMDB keeps it."""
        return _TOTALS.pack(self.small_bytes, self.large_bytes, self.verification_failures)


def totals_from(value: bytes | memoryview | None) -> Totals:
    """The totals LMDB keeps; zeros where it keeps none, or none that make sense."""
    if value is None or len(value) != _TOTALS.size:
        return Totals()
    return Totals(*_TOTALS.unpack(value))


@dataclass(frozen=True, slots=True)
class Counts:
    """What has happened so far, in all processes. New ones go to the end: those an older program wrote lack them."""

    evictions: int = 0
    evicted_bytes: int = 0
    small_hits: int = 0
    large_hits: int = 0
    lower_hits: int = 0
    misses: int = 0

    def packed(self) -> bytes:
        """As LMDB keeps it."""
        return b"".join([_NUMBER.pack(number) for number in astuple(self)])

    def __add__(self, more: Counts) -> Counts:
        return Counts(*map(sum, zip(astuple(self), astuple(more), strict=True)))


def counts_from(value: bytes | memoryview | None) -> Counts:
    """The counts LMDB keeps, zero for those it lacks."""
    whole = memoryview(value or b"")[: len(fields(Counts)) * _NUMBER.size]
    return Counts(*[number for (number,) in _NUMBER.iter_unpack(whole[: len(whole) // _NUMBER.size * _NUMBER.size])])
