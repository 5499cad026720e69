"""Keeping the chunk hashes of large objects that stay in other buckets, so that parts of them can be verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusepkg_cache.digest import Algorithm, chunk_count

from fusepkg.errors import AccessDenied, DigestMismatch, ObjectMissing
from fusepkg.publish.draft.entry_sources import RemoteObjects
from fusepkg.registry.manifests import get_chunk_list, put_chunk_list
from fusepkg.work.threads import StopFlag, run_threads

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fusepkg_cache.digest import Digest

    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.publish.draft.draft import Draft
    from fusepkg.store.protocol import ObjectStore

_THREADS = 16
"""Chunk lists carried over at a time: latency only."""


def carry_chunk_lists(draft: Draft, store: ObjectStore) -> None:
    """Put the chunk lists of objects that a version names in other buckets into its own.

    An object whose chunk hashes are not known is left out: it is read whole. Raises what stores raise.
    """

    def carry(of: tuple[Digest, Sequence[bytes], PhysicalKey]) -> None:
        digest, chunks, place = of
        if not chunks:
            theirs, _ = draft.stores.for_key(place)
            try:
                chunks = get_chunk_list(theirs, digest)
            except (ObjectMissing, DigestMismatch, AccessDenied):
                return
        put_chunk_list(store, digest, chunks)

    lists = _lists_elsewhere(draft, store)
    run_threads(carry, lists, lambda _: None, threads=_THREADS, name="fusepkg-chunks", stop=StopFlag())


def _lists_elsewhere(draft: Draft, store: ObjectStore) -> Iterator[tuple[Digest, Sequence[bytes], PhysicalKey]]:
    here = store.url("~")[:-1]
    for item, number in draft.tree.all():
        entries = item.entries
        if item.is_local or (item.source.startswith(here) and not isinstance(entries, RemoteObjects)):
            continue
        known = entries.get(number)
        if chunk_count(known.size) > 1 and known.digest and known.digest.algorithm is Algorithm.SHA2_256_CHUNKED:
            chunks = entries.hashes[number].chunks if isinstance(entries, RemoteObjects) else ()
            yield known.digest, chunks, known.place
