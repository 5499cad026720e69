"""Block hashes of the large files of a version being made: their roots for its manifest, their lists for its bucket."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fusepkg_cache.digest import Algorithm, chunk_count

from fusepkg.model.block_hashes import block_root, list_bytes
from fusepkg.publish.draft.entry_sources import LocalFiles, UploadedFiles
from fusepkg.publish.hash.blocks import hash_blocks
from fusepkg.publish.manifest import build_manifest
from fusepkg.registry.block_lists import get_block_list, has_block_list, put_block_list
from fusepkg.work.progress import no_progress
from fusepkg.work.threads import StopFlag, run_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusepkg_cache.digest import Digest

    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.publish.draft.draft import Draft
    from fusepkg.publish.hashes import Hashed
    from fusepkg.publish.scanned import ScannedFile
    from fusepkg.state.hints import Hints
    from fusepkg.store.protocol import ObjectStore
    from fusepkg.work.progress import ProgressCallback

_TABLES = (".parquet", ".parq", ".pq", ".arrow", ".feather", ".ipc", ".orc", ".avro", ".lance")
_ARRAYS = (".h5", ".hdf5", ".he5", ".hdf", ".nc", ".nc4", ".tif", ".tiff")
_ARCHIVES = (".zip", ".npz", ".duckdb", ".db", ".sqlite", ".sqlite3", ".pmtiles", ".mbtiles")
READ_IN_PARTS = frozenset(_TABLES + _ARRAYS + _ARCHIVES)
"""How the names of files end that programs seldom read from first byte to last."""

_THREADS = 16
"""Lists carried over at a time: latency only."""


def build_with_block_hashes(
    draft: Draft,
    store: ObjectStore | None,
    *,
    of_all: bool,
    look_again: bool = True,
    hints: Hints | None = None,
    progress: ProgressCallback = no_progress,
) -> str:
    """Build the manifest, and once more with the roots of the files of several chunks; return its top hash.

    Unless ``of_all``, only files of formats get roots that are read in parts. The lists go into ``store``, if there is
    one. Raises what ``build_manifest`` and stores raise.
    """
    top_hash = build_manifest(draft, look_again=look_again, hints=hints, progress=progress)
    if not _hash_large_files(draft, store, hints, progress, of_all=of_all):
        return top_hash
    draft.changed()
    return build_manifest(draft, look_again=False, hints=hints, progress=progress)


def is_read_in_parts(logical_key: str) -> bool:
    """Return whether a file's name is that of a format which is read in parts."""
    return os.path.splitext(logical_key)[1].lower() in READ_IN_PARTS


def _hash_large_files(
    draft: Draft, store: ObjectStore | None, hints: Hints | None, progress: ProgressCallback, *, of_all: bool
) -> bool:
    """Give the draft the roots of its files of this machine of several chunks; return whether there are any.

    A file is not read whose root is remembered and whose list is there.
    """
    files: dict[Digest, tuple[ScannedFile, Hashed]] = {}
    for logical_key, (item, number) in draft.tree.in_order():
        if not of_all and not is_read_in_parts(logical_key):
            continue
        entries = item.entries.files if isinstance(item.entries, UploadedFiles) else item.entries
        if isinstance(entries, LocalFiles) and chunk_count(entries.get_size(number)) > 1:
            hashed = entries.hashes[number]
            files[hashed.digest] = entries.files[number], hashed
    for digest in list(files):
        root = draft.block_roots.get(digest) or (hints.block_root(digest) if hints is not None else None)
        if root is not None and (store is None or has_block_list(store, root, list_bytes(files[digest][0].size))):
            draft.block_roots[digest] = root
            del files[digest]

    def found(digest: Digest, root: Digest, data: bytes) -> None:
        if store is not None:
            put_block_list(store, root, data)
        draft.block_roots[digest] = root
        if hints is not None:
            hints.remember_block_root(digest, root)

    if files:
        hash_blocks(list(files.values()), found, progress=progress)
    return bool(draft.block_roots)


def carry_block_lists(draft: Draft, store: ObjectStore) -> None:
    """Put the lists of objects that a version takes from other buckets into its own, as far as they are there.

    Without a list an object is read in chunks. Raises what stores raise.
    """

    def carry(one: tuple[Digest, int, PhysicalKey]) -> None:
        root, size, place = one
        if has_block_list(store, root, size):
            return
        theirs, _ = draft.stores.for_key(place)
        data = get_block_list(theirs, root, size)
        if data is not None:
            put_block_list(store, root, data)

    lists = _lists_elsewhere(draft, store)
    run_threads(carry, lists, lambda _: None, threads=_THREADS, name="fusepkg-blocks", stop=StopFlag())


def _lists_elsewhere(draft: Draft, store: ObjectStore) -> Iterator[tuple[Digest, int, PhysicalKey]]:
    here = store.url("~")[:-1]
    for item, number in draft.tree.all():
        if item.is_local or item.source.startswith(here) or chunk_count(item.entries.get_size(number)) < 2:
            continue
        known = item.entries.get(number)
        root = block_root(known.meta)
        if root is not None and known.digest and known.digest.algorithm is Algorithm.SHA2_256_CHUNKED:
            yield root, list_bytes(known.size), known.place
