"""The bytes of a segment: many blobs one after the other, each with a header that says which blob it is.

Cache segments and packs in a bucket have this format. All numbers are little-endian, sums are as xxhash writes them
(big-endian). A segment begins with the 8 bytes ``MAGIC``; records follow, each at a multiple of 8 bytes:

    offset  bytes
         0      4  "fsr1"
         4      1  kind: 1 a blob, 2 the block sums of a blob that lies in a file, 0 a removed record
         5      1  algorithm: 1 sha2-256, 2 sha2-256-chunked, 3 crc64nvme
         6      2  zero
         8      8  length of the payload in bytes
        16     32  digest: the raw hash; of crc64nvme the checksum (8 bytes) and its scope (24 bytes)
        48      8  xxh3_64 of the payload, seeded with the first 8 bytes of the digest as a big-endian number
                   (for crc64nvme XORed with the next 8)
        56      8  xxh3_64 of the 56 bytes before, not seeded
        64         the payload: a blob's bytes; or the blob's size (8 bytes), then xxh3_64 of each 64 KiB, seeded alike
                   zeros, up to the next multiple of 8 bytes

A removed record keeps its length, so that the next one is found. Nothing in a segment is trusted: a reader compares
header and sums, and a reader in another process than the writer's compares the digest.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from fusepkg_cache.records import KEY_BYTES, SUM_BYTES, seed_of

if TYPE_CHECKING:
    from fusepkg_cache.digest import Digest

MAGIC = b"fspseg1\n"
RECORD_MAGIC = b"fsr1"
HEADER_BYTES = 64
ALIGN_BYTES = 8

REMOVED = 0
BLOB = 1
BLOCK_SUMS = 2

_FRONT = struct.Struct("<4sBBHQ")
_SUMMED = 56


class SegmentHeader(NamedTuple):
    """What a record's header says. ``key`` is the algorithm's code and the digest, as in the index."""

    kind: int
    key: bytes
    length: int
    total: bytes


def payload_sum(digest: Digest, payload: bytes | memoryview) -> bytes:
    """The sum of a payload, as its header has it."""
    return xxhash.xxh3_64_digest(payload, seed_of(digest))


def front_of(kind: int, key: bytes, length: int) -> bytes:
    """The first 48 bytes of a header."""
    return _FRONT.pack(RECORD_MAGIC, kind, key[0], 0, length) + key[1:]


def header(kind: int, key: bytes, length: int, total: bytes) -> bytes:
    """The header of a record whose payload has ``length`` bytes and the sum ``total``."""
    summed = front_of(kind, key, length) + total
    return summed + xxhash.xxh3_64_digest(summed)


def padding(length: int) -> bytes:
    """What follows a payload of ``length`` bytes."""
    return bytes(-length % ALIGN_BYTES)


def record_bytes(length: int) -> int:
    """The bytes a record takes whose payload has ``length`` bytes."""
    return HEADER_BYTES + length + -length % ALIGN_BYTES


def parse_header(data: bytes) -> SegmentHeader | None:
    """What a header says; None if these are not the bytes of one."""
    if len(data) < HEADER_BYTES or xxhash.xxh3_64_digest(data[:_SUMMED]) != data[_SUMMED:HEADER_BYTES]:
        return None
    magic, kind, code, _, length = _FRONT.unpack_from(data)
    if magic != RECORD_MAGIC:
        return None
    return SegmentHeader(
        kind, bytes([code]) + data[_FRONT.size : _FRONT.size + KEY_BYTES - 1], length, data[48:_SUMMED]
    )


def payload_of(record: bytes, kind: int, digest: Digest, key: bytes, length: int) -> bytes | None:
    """The payload of a record that should be this one; None if it is another one, or damaged."""
    end = HEADER_BYTES + length
    if len(record) < end or not record.startswith(front_of(kind, key, length)):
        return None
    payload = record[HEADER_BYTES:end]
    if xxhash.xxh3_64_digest(payload, seed_of(digest)) != record[_SUMMED - SUM_BYTES : _SUMMED]:
        return None
    return payload


def blob_record(digest: Digest, key: bytes, data: bytes) -> tuple[bytes, bytes, bytes]:
    """Header, payload and padding of a blob's record."""
    length = len(data)
    return header(BLOB, key, length, payload_sum(digest, data)), data, padding(length)
