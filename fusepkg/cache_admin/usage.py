"""Compute how much of each version is in the cache."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from fusepkg_cache.digest import DIGEST_BYTES

from fusepkg.fetch.chunks import is_chunked, nth_digest
from fusepkg.model.cache_names import cache_name, list_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fusepkg_cache import Cache
    from fusepkg_cache.digest import Digest

    from fusepkg.index.opening import Index
    from fusepkg.model.cache_names import Content

BATCH = 4096
"""Entries looked up at a time: the cache looks for all in one transaction."""


@dataclass(frozen=True, slots=True)
class Share:
    """What of a version is here: entries that can be read without the bucket, and the bytes, of all there are."""

    files_here: int
    bytes_here: int
    files: int
    bytes: int


def share_of(cache: Cache, index: Index, progress: Callable[[int, int], None]) -> Share:
    """Return how much of a version is in the cache. Raises CacheUnusable, IndexDamaged."""
    files_here = bytes_here = done = 0
    contents = index.entries.contents()
    while batch := list(islice(contents, BATCH)):
        sizes = list(cache.sizes([cache_name(entry) for entry in batch]))
        for entry, size in zip(batch, sizes, strict=True):
            if size is not None or not entry.size:
                here = entry.size
            else:
                here = _chunks_here(cache, entry) if is_chunked(entry) else 0
            bytes_here += here
            files_here += here == entry.size
        done += len(batch)
        progress(done, len(index.entries))
    return Share(files_here, bytes_here, len(index.entries), index.total_bytes)


def _chunks_here(cache: Cache, entry: Content) -> int:
    return sum(size or 0 for size in cache.sizes(_chunk_digests(cache, entry)))


def _chunk_digests(cache: Cache, entry: Content) -> Iterator[Digest]:
    """The names of an entry's chunks, where it has several and the cache holds the list of them."""
    name = list_digest(entry) if is_chunked(entry) else None
    chunk_list = (cache.peek(name) if name else None) or b""
    for index in range(len(chunk_list) // DIGEST_BYTES):
        yield nth_digest(chunk_list, index)
