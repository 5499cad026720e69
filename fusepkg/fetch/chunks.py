"""Which chunks the bytes of a blob lie in, and all names under which a cache may hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from fusepkg_cache.digest import DIGEST_BYTES, Algorithm, Digest, chunk_count, chunk_size

from fusepkg.model.block_hashes import block_root, read_head
from fusepkg.model.cache_names import cache_name, list_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fusepkg_cache import Cache

    from fusepkg.model.cache_names import Content


def is_chunked(content: Content) -> bool:
    """Whether the blob has more than one chunk, so that parts of it are fetched and verified apart."""
    return chunk_count(content.size) > 1


class HasSize(Protocol):
    """A blob, as far as its chunks go."""

    @property
    def size(self) -> int:
        """In bytes."""


class Span(NamedTuple):
    """Bytes ``low`` to ``high`` of the chunk with a number."""

    chunk: int
    low: int
    high: int


def chunk_spans(content: HasSize, offset: int, end: int) -> Iterator[Span]:
    """Yield what bytes ``offset`` to ``end`` are of each chunk."""
    size = chunk_size(content.size)
    for index in range(offset // size, (end - 1) // size + 1):
        start = index * size
        yield Span(index, max(offset, start) - start, min(end, start + size) - start)


def nth_digest(chunk_list: bytes, index: int) -> Digest:
    """Return the name of one chunk, out of the raw hashes of all."""
    return Digest(Algorithm.SHA2_256, chunk_list[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES])


def cached_digests(cache: Cache, contents: Iterable[Content]) -> Iterator[Digest]:
    """Yield all names under which a cache may hold bytes of these entries."""
    for content in contents:
        yield cache_name(content)
        chunk_list_digest = list_digest(content) if is_chunked(content) else None
        if chunk_list_digest is not None:
            chunk_list = cache.peek(chunk_list_digest) or b""
            for index in range(len(chunk_list) // DIGEST_BYTES):
                yield nth_digest(chunk_list, index)
            yield chunk_list_digest
        if is_chunked(content):
            yield from _cached_blocks(cache, content)


def _cached_blocks(cache: Cache, content: Content) -> Iterator[Digest]:
    """Yield the names of the blocks that a cache may hold, and of the parts of the list that names them."""
    root = block_root(content.meta)
    head = None if root is None else cache.peek(root)
    part_hashes = None if head is None else read_head(head, content.digest, content.size)
    if root is None or part_hashes is None:
        return
    for index in range(len(part_hashes) // DIGEST_BYTES):
        part_digest = nth_digest(part_hashes, index)
        part = cache.peek(part_digest) or b""
        for block in range(len(part) // DIGEST_BYTES):
            yield nth_digest(part, block)
        yield part_digest
    yield root
