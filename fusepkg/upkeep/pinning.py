"""Pins: versions whose bytes the cache never gives up to make room.

Owns: what a pin of a version is called, and which blobs it covers. Must not know: references as typed, printing.

Of a blob of several chunks, the chunks are what is cached. So the lists of chunk hashes are fetched when a version is
pinned, and pinned too; nothing else is fetched.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING

from fusepkg_cache.digest import DIGEST_BYTES

from fusepkg.errors import AccessDenied, DigestMismatch, ObjectMissing
from fusepkg.fetch.chunks import cache_name, is_chunked, list_digest, nth_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fusepkg_cache import Cache
    from fusepkg_cache.digest import Digest

    from fusepkg.index.opening import Index
    from fusepkg.model.entry import Entry
    from fusepkg.model.reference import Reference

_THREADS = 16
"""Chunk lists fetched at a time: small objects, latency only."""

_BATCH = 1024
"""Entries whose chunk lists are looked for at a time."""


def pin_name(reference: Reference, top_hash: str) -> str:
    """What the pin of a version is called: the version as a user writes it, by its whole hash."""
    return f"{reference.package}@{top_hash}"


def pin_version(
    cache: Cache,
    name: str,
    index: Index,
    get_chunk_list: Callable[[Digest], list[bytes]],
    progress: Callable[[int, int], None],
) -> None:
    """Pin all blobs of a version, those that are not here yet too.

    Raises CacheUnusable, and what ``get_chunk_list`` raises, except for ObjectMissing, AccessDenied and DigestMismatch:
    a blob whose chunks nobody knows is kept whole.
    """
    cache.pin(name, _digests(cache, index, get_chunk_list, progress))


def _digests(
    cache: Cache, index: Index, get_chunk_list: Callable[[Digest], list[bytes]], progress: Callable[[int, int], None]
) -> Iterator[Digest]:
    done = 0
    entries = iter(index.entries)

    def chunk_list_of(entry: Entry) -> bytes:
        return _chunk_list(cache, entry, get_chunk_list)

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="fusepkg-chunks") as threads:
        while batch := list(islice(entries, _BATCH)):
            for entry in batch:
                yield cache_name(entry)
            large = [entry for entry in batch if is_chunked(entry) and list_digest(entry) is not None]
            for entry, chunk_list in zip(large, threads.map(chunk_list_of, large), strict=True):
                name = list_digest(entry)
                if chunk_list and name is not None:
                    yield name
                    yield from (nth_digest(chunk_list, at) for at in range(len(chunk_list) // DIGEST_BYTES))
            done += len(batch)
            progress(done, len(index.entries))


def _chunk_list(cache: Cache, entry: Entry, get_chunk_list: Callable[[Digest], list[bytes]]) -> bytes:
    """From the cache, or the bucket and then kept; empty where there is none."""
    name = list_digest(entry)
    assert name is not None, "only entries with a list are asked for"
    known = cache.get(name, own_only=True)
    if known is not None:
        return known
    try:
        chunk_list = b"".join(get_chunk_list(entry.digest))
    except (ObjectMissing, AccessDenied, DigestMismatch):
        return b""
    cache.put(name, chunk_list)
    return chunk_list
