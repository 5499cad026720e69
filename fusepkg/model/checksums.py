"""What an object's checksums, as S3 tells them, say about its digest.

S3 keeps the SHA-256 of an object sent in one request, and of one sent in parts the SHA-256 of the parts' raw hashes,
in order. The second is a ``sha2-256-chunked`` value where every part was one chunk, and so follows from the first for
an object of one chunk. S3 computes or checks these itself: a value it tells is as good as one read and computed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg_cache.digest import Algorithm, Digest, chunk_count, chunk_size, combine_chunks, compute_digest

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Checksums:
    """Checksums of an object; None where the server tells none.

    ``sha256`` is over the whole object where ``parts`` is 0, else over the raw SHA-256 values of that many parts.
    ``crc64nvme`` is over the whole object: 8 bytes.
    """

    sha256: bytes | None = None
    parts: int = 0
    crc64nvme: bytes | None = None


def digest_from_checksums(
    size: int, checksums: Checksums | None, part_bytes: Sequence[int] | None = None
) -> Digest | None:
    """The ``sha2-256-chunked`` digest of an object of that size; None where it does not follow.

    ``part_bytes`` are the sizes of its parts. Without them an object of several parts has none: how it was cut cannot
    be told from its checksum.
    """
    if size == 0:
        return combine_chunks([])
    if checksums is None or checksums.sha256 is None:
        return None
    if checksums.parts == 0:
        return combine_chunks([checksums.sha256]) if chunk_count(size) == 1 else None
    if checksums.parts == 1:
        cut_in_chunks = chunk_count(size) == 1
    else:
        cut_in_chunks = part_bytes is not None and list(part_bytes) == _chunks(size)
    return Digest(Algorithm.SHA2_256_CHUNKED, checksums.sha256) if cut_in_chunks else None


def matches_checksums(size: int, checksums: Checksums | None, digest: Digest) -> bool | None:
    """Whether an object of that size has the digest, of whichever type; None where its checksums leave it open."""
    if size == 0:
        return digest.matches(compute_digest(digest.algorithm, b""))
    if checksums is None:
        return None
    if digest.algorithm is Algorithm.CRC64NVME:
        return None if checksums.crc64nvme is None else checksums.crc64nvme == digest.computed
    if checksums.sha256 is None or digest.algorithm.weak:
        return None
    if digest.algorithm is Algorithm.SHA2_256:
        if checksums.parts > 1:
            return None
        return checksums.sha256 == (hashlib.sha256(digest.value).digest() if checksums.parts else digest.value)
    if checksums.parts and checksums.sha256 == digest.value:
        return True  # equal hashes of hashes: the parts were the chunks
    known = digest_from_checksums(size, checksums)
    return None if known is None else known == digest


def _chunks(size: int) -> list[int]:
    whole, rest = divmod(size, chunk_size(size))
    return [chunk_size(size)] * whole + [rest] * bool(rest)
