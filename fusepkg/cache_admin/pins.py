"""Pin versions: their blobs are not evicted from the cache.

Of a blob of several chunks, the chunks are what is cached. So the lists of chunk hashes are fetched when a version is
pinned, and pinned too; nothing else is fetched.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from fusepkg_cache.digest import DIGEST_BYTES, Algorithm, Digest

from fusepkg.errors import AccessDenied, DigestMismatch, ObjectMissing
from fusepkg.fetch.chunks import is_chunked, nth_digest
from fusepkg.model.cache_names import cache_name, list_digest
from fusepkg.work.threads import StopFlag, run_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusepkg_cache import Cache

    from fusepkg.index.opening import Index
    from fusepkg.model.entry import Entry
    from fusepkg.model.reference import Reference

_THREADS = 16
"""Chunk lists fetched at a time: small objects, latency only."""

_TOLD_EVERY = 4096
"""Entries between two reports of progress."""


def pin_name(reference: Reference, top_hash: str) -> str:
    """Return the name of a version's pin: its reference with the whole hash."""
    return f"{reference.package}@{top_hash}"


def pin_version(
    cache: Cache,
    name: str,
    index: Index,
    get_chunk_list: Callable[[Digest], list[bytes]],
    progress: Callable[[int, int], None],
) -> None:
    """Pin all blobs of a version, cached or not.

    Raises CacheUnusable, and what ``get_chunk_list`` raises, except for ObjectMissing, AccessDenied and DigestMismatch:
    a blob without a chunk list is pinned as a whole.
    """
    digests: list[Digest] = []
    large: list[Entry] = []
    for number, entry in enumerate(index.entries, 1):
        digests.append(cache_name(entry))
        if is_chunked(entry):
            large.append(entry)
        if not number % _TOLD_EVERY:
            progress(number, len(index.entries))

    def collect(chunk_list: bytes) -> None:
        if chunk_list:
            digests.append(Digest(Algorithm.SHA2_256, hashlib.sha256(chunk_list).digest()))
            digests.extend(nth_digest(chunk_list, at) for at in range(len(chunk_list) // DIGEST_BYTES))

    def chunk_list_of(entry: Entry) -> bytes:
        return _chunk_list(cache, entry, get_chunk_list)

    run_threads(chunk_list_of, large, collect, threads=_THREADS, name="fusepkg-chunks", stop=StopFlag())
    cache.pin(name, digests)


def _chunk_list(cache: Cache, entry: Entry, get_chunk_list: Callable[[Digest], list[bytes]]) -> bytes:
    """From the cache, or the bucket and then kept; empty where there is none."""
    name = list_digest(entry)
    if name is None:
        return b""
    known = cache.get(name, own_only=True)
    if known is not None:
        return known
    try:
        chunk_list = b"".join(get_chunk_list(entry.digest))
    except (ObjectMissing, AccessDenied, DigestMismatch):
        return b""
    cache.put(name, chunk_list)
    return chunk_list
