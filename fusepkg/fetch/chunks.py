"""Which chunks bytes of a blob lie in, and under which names a cache holds them.

Owns: this arithmetic. Must not know: how anything is fetched.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

from fusepkg_cache.digest import DIGEST_BYTES, Algorithm, Digest, chunk_count, chunk_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fusepkg_cache import Cache

    from fusepkg.model.physical_key import PhysicalKey


class Content(Protocol):
    """The bytes of an entry, by what names them."""

    @property
    def physical_key(self) -> PhysicalKey:
        """Where they lie."""

    @property
    def size(self) -> int:
        """How many there are."""

    @property
    def digest(self) -> Digest:
        """What they hash to."""


def cache_name(entry: Content) -> Digest:
    """The name under which a cache holds an entry's bytes: its hash, or a weak hash and where the object lies.

    Anybody can make other bytes for a checksum. So those of one object are never given out as those of another.
    """
    digest = entry.digest
    if not digest.algorithm.weak:
        return digest
    scope = hashlib.sha256(f"{entry.physical_key}\n{entry.size}".encode()).digest()
    return Digest(digest.algorithm, (digest.computed + scope)[:DIGEST_BYTES])


def is_chunked(entry: Content) -> bool:
    """Whether the blob has more than one chunk, so that parts of it are fetched and verified apart."""
    return chunk_count(entry.size) > 1


def chunk_spans(entry: Content, offset: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The chunks that bytes ``offset`` to ``end`` touch: number, and first and last byte within the chunk."""
    size = chunk_size(entry.size)
    for index in range(offset // size, (end - 1) // size + 1):
        start = index * size
        yield index, max(offset, start) - start, min(end, start + size) - start


def nth_digest(chunk_list: bytes, index: int) -> Digest:
    """The name of one chunk, out of the raw hashes of all."""
    return Digest(Algorithm.SHA2_256, chunk_list[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES])


def list_digest(entry: Content) -> Digest | None:
    """The name of the entry's chunk list as a blob: its plain SHA-256 is the entry's own value."""
    if entry.digest.algorithm is not Algorithm.SHA2_256_CHUNKED:
        return None
    return Digest(Algorithm.SHA2_256, entry.digest.value)


def cached_digests(cache: Cache, entries: Iterable[Content]) -> Iterator[Digest]:
    """All names under which a cache may hold bytes of these entries."""
    for entry in entries:
        yield cache_name(entry)
        chunk_list_digest = list_digest(entry) if is_chunked(entry) else None
        if chunk_list_digest is not None:
            chunk_list = cache.peek(chunk_list_digest) or b""
            for index in range(len(chunk_list) // DIGEST_BYTES):
                yield nth_digest(chunk_list, index)
            yield chunk_list_digest
