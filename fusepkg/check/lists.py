"""Check what a registry holds beside manifests and objects: lists of hashes and packs. They only save time.

What is missing is told where a push always writes it; a chunk list may have been left out by another tool.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from fusepkg_cache.digest import DIGEST_BYTES, Algorithm, chunk_count, chunk_size

from fusepkg.check.directory import Difference, DifferenceKind
from fusepkg.errors import AccessDenied, DigestMismatch, ObjectMissing, PackTableInvalid
from fusepkg.fetch.verified import expected_object, take_object
from fusepkg.model.block_hashes import (
    block_hashes,
    block_root,
    head_bytes,
    list_bytes,
    part_span,
    read_head,
    write_list,
)
from fusepkg.packs.pack import SizedDigest, holds, pack_of
from fusepkg.packs.table import read_table
from fusepkg.registry.block_lists import get_block_list, put_block_list
from fusepkg.registry.layout import pack_key
from fusepkg.registry.manifests import get_chunk_list, put_chunk_list
from fusepkg.registry.packs import get_pack_table, has_pack
from fusepkg.work.threads import StopFlag, run_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fusepkg_cache.digest import Digest

    from fusepkg.index.opening import Index
    from fusepkg.model.entry import Entry
    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.store.protocol import ObjectStore

_THREADS = 16
"""Lists asked for at a time: latency only."""


def check_lists(store: ObjectStore, entries: Iterable[Entry]) -> list[Difference]:
    """Return the large entries whose lists in the registry are damaged, or lack block hashes.

    Raises what stores raise.
    """
    large = (one for one in entries if chunk_count(one.size) > 1 and one.digest.algorithm is Algorithm.SHA2_256_CHUNKED)
    found: list[Difference] = []

    def check(entry: Entry) -> list[Difference]:
        problems = _chunk_list_problem(store, entry), _block_list_problem(store, entry)
        return [Difference(entry.logical_key, one, DifferenceKind.CHANGED, entry) for one in problems if one]

    run_threads(check, large, found.extend, threads=_THREADS, name="fusepkg-lists", stop=StopFlag())
    return sorted(found, key=lambda difference: difference.logical_key)


def _chunk_list_problem(store: ObjectStore, entry: Entry) -> str | None:
    try:
        chunks = get_chunk_list(store, entry.digest)
    except (ObjectMissing, AccessDenied):
        return None
    except DigestMismatch:
        return "has a damaged chunk list, so it is fetched whole"
    return None if len(chunks) == chunk_count(entry.size) else "has the chunk list of a file of another size"


def _block_list_problem(store: ObjectStore, entry: Entry) -> str | None:
    root = block_root(entry.meta)
    if root is None:
        return None
    data = get_block_list(store, root, list_bytes(entry.size))
    if data is None:
        return "lacks its block hashes, so small reads fetch chunks"
    return None if _is_list(data, root, entry) else "has damaged block hashes, so small reads fetch chunks"


def _is_list(data: bytes, root: Digest, entry: Entry) -> bool:
    head = data[: head_bytes(entry.size)]
    parts = read_head(head, entry.digest, entry.size)
    if parts is None or hashlib.sha256(head).digest() != root.value:
        return False
    for index in range(chunk_count(entry.size)):
        start, length = part_span(entry.size, index)
        of_part = parts[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]
        if hashlib.sha256(data[start : start + length]).digest() != of_part:
            return False
    return True


def mend_lists(store: ObjectStore, entry: Entry, open_place: Callable[[PhysicalKey], tuple[ObjectStore, str]]) -> bool:
    """Read a large object and put its lists again; False if it is not the entry's object, so that nothing was put."""
    chunks: list[bytes] = []
    parts: list[bytes] = []

    def hash_chunks(pieces: Iterator[bytes]) -> None:
        chunks.clear()
        parts.clear()
        for piece in pieces:
            chunks.append(hashlib.sha256(piece).digest())
            parts.append(block_hashes(piece))

    try:
        take_object(expected_object(entry), open_place, hash_chunks, piece_bytes=chunk_size(entry.size))
    except (ObjectMissing, DigestMismatch):
        return False
    put_chunk_list(store, entry.digest, chunks)
    root, data = write_list(entry.digest, entry.size, parts)
    if block_root(entry.meta) == root:
        put_block_list(store, root, data)
    return True


def check_packs(store: ObjectStore, index: Index) -> list[str]:
    """Return what is wrong with the packs of a version, in words; each is read whole. Raises what stores raise."""
    try:
        spans = read_table(get_pack_table(store, index.top_hash), index.top_hash, len(index.entries))
    except (ObjectMissing, AccessDenied):
        return []
    except PackTableInvalid as exc:
        return [f"the table of packs is damaged: {exc.message}"]
    return [problem for packed in spans for problem in _pack_problems(store, index, packed.pack, *packed.span)]


def _pack_problems(store: ObjectStore, index: Index, name: str, first: int, entries: int) -> Iterator[str]:
    pack = pack_of([SizedDigest(size, digest) for size, digest in index.entries.blobs_between(first, first + entries)])
    if pack.name != name:
        yield f"the table of packs names {name[:9]} for files that another pack holds"
    elif not has_pack(store, name, pack.size):
        yield f"pack {name[:9]} is missing"
    elif not holds(pack, store.get(pack_key(name), length=pack.size + 1)):
        yield f"pack {name[:9]} is damaged"
