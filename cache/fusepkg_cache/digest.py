"""Names of blobs: which hash, which value, and how it is computed.

Owns: the hash algorithms of the package format, one-shot and incremental. Must not know: where bytes come from or go.

``sha2-256`` is plain SHA-256. ``sha2-256-chunked`` splits the blob in chunks of ``chunk_size(len)`` bytes and is the
SHA-256 of the chunks' concatenated raw SHA-256 values, also for one chunk; no bytes, no chunks. (quilt3's format.)
"""

from __future__ import annotations

import base64
import enum
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg_cache.errors import DigestMismatch

if TYPE_CHECKING:
    from collections.abc import Sequence

MIN_CHUNK_BYTES = 8 * 1024 * 1024
"""Chunk size of every blob up to ``MAX_CHUNKS`` chunks; also S3's part size in quilt3 uploads."""

MAX_CHUNKS = 10_000
"""S3's limit of parts per upload: the chunk size doubles while a blob would need more."""

DIGEST_BYTES = 32
"""Length of a raw digest value; both algorithms end in SHA-256."""


class Algorithm(enum.Enum):
    """A hash algorithm; the value is its name in cache keys and log lines."""

    SHA2_256 = "sha2-256"
    SHA2_256_CHUNKED = "sha2-256-chunked"


@dataclass(frozen=True, slots=True)
class Digest:
    """The identity of a blob: ``value`` is the raw hash, 32 bytes."""

    algorithm: Algorithm
    value: bytes

    def __post_init__(self) -> None:
        if len(self.value) != DIGEST_BYTES:
            raise ValueError(f"a digest has {DIGEST_BYTES} bytes, not {len(self.value)}")

    @property
    def hex(self) -> str:
        """Lower-case hex of the value."""
        return self.value.hex()

    @property
    def base64(self) -> str:
        """Standard base64 of the value, padded: how manifests write chunked hashes."""
        return base64.b64encode(self.value).decode("ascii")

    def __str__(self) -> str:
        return f"{self.algorithm.value}:{self.hex}"


def chunk_size(blob_bytes: int) -> int:
    """Bytes per chunk of a blob of that size."""
    size = MIN_CHUNK_BYTES
    while -(-blob_bytes // size) > MAX_CHUNKS:
        size *= 2
    return size


def chunk_count(blob_bytes: int) -> int:
    """Number of chunks of a blob of that size; 0 for an empty one."""
    return -(-blob_bytes // chunk_size(blob_bytes))


def chunk_digest(chunk: bytes | bytearray | memoryview) -> Digest:
    """The name of one chunk as a blob of its own: its plain SHA-256."""
    return Digest(Algorithm.SHA2_256, hashlib.sha256(chunk).digest())


def combine_chunks(chunks: Sequence[bytes]) -> Digest:
    """The ``sha2-256-chunked`` digest of a blob whose chunks have these raw SHA-256 values, in order."""
    return Digest(Algorithm.SHA2_256_CHUNKED, hashlib.sha256(b"".join(chunks)).digest())


def compute_digest(algorithm: Algorithm, data: bytes | bytearray | memoryview) -> Digest:
    """The digest of a whole blob held in memory."""
    if algorithm is Algorithm.SHA2_256:
        return Digest(algorithm, hashlib.sha256(data).digest())
    view = memoryview(data)
    size = chunk_size(len(view))
    return combine_chunks([hashlib.sha256(view[at : at + size]).digest() for at in range(0, len(view), size)])


def require_match(digest: Digest, data: bytes) -> None:
    """Raise DigestMismatch unless ``data`` is the blob that ``digest`` names."""
    found = compute_digest(digest.algorithm, data)
    if found != digest:
        raise DigestMismatch(f"{len(data)} bytes given as {digest} hash to {found}")
