"""Manifests and chunk lists in a bucket: finding them, fetching them, and putting them there once and for all.

Owns: the objects' reading and writing, and what to do where one exists already. Must not know: tags, what fusepkg's
cache or indexes make of a manifest.

A manifest is looked for in every layout a registry may have: a tag of ours may name one that quilt3 wrote.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg_cache.digest import DIGEST_BYTES, MAX_CHUNKS, combine_chunks

from fusepkg.errors import (
    AccessDenied,
    DigestMismatch,
    HashNotFound,
    ManifestInvalid,
    ObjectCollision,
    ObjectExists,
    ObjectMissing,
    ObjectTooLarge,
    UnsupportedFormat,
)
from fusepkg.model.manifest import OutOfOrder, in_tree_order, read_manifest, sorted_in_tree_order
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.model.record import DirectoryRecord
from fusepkg.model.tophash import TopHash
from fusepkg.registry import layout
from fusepkg.registry.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fusepkg_cache.digest import Digest

    from fusepkg.model.record import EntryRecord
    from fusepkg.store.protocol import ObjectStore

    _Records = Iterable[EntryRecord | DirectoryRecord]

_MEND_HINT = "Push the package again to mend it"

_PIECE_BYTES = 1 << 20
"""Manifests are streamed in pieces of this size: memory does not grow with them."""


def fetch_manifest(
    store: ObjectStore, name: str, top_hash: str, into: Path, *, first: Layout = Layout.FUSEPKG
) -> Layout:
    """Write one manifest, as it is, to a new file, and give the layout it was found in; ``first`` is looked at first.

    No file is left behind where that fails. Nothing is checked here: whoever parses the manifest computes its top hash
    on the way.

    Raises: HashNotFound, and what stores raise.
    """

    def fetch(key: str) -> None:
        with into.open("wb") as file:
            for piece in store.stream(key, piece_bytes=_PIECE_BYTES):
                file.write(piece)

    try:
        return _try_layouts(store, name, top_hash, first, fetch)
    except BaseException:
        into.unlink(missing_ok=True)
        raise


def find_manifest(store: ObjectStore, name: str, top_hash: str, *, first: Layout = Layout.FUSEPKG) -> str:
    """The key of a manifest: a HEAD for each place it may lie in. Raises HashNotFound, and what stores raise."""
    return layout.manifest_key(name, top_hash, _try_layouts(store, name, top_hash, first, store.head))


def has_manifest(store: ObjectStore, name: str, top_hash: str) -> bool:
    """Whether the bucket holds a manifest, in any layout."""
    try:
        find_manifest(store, name, top_hash)
    except HashNotFound:
        return False
    return True


def _try_layouts(store: ObjectStore, name: str, top_hash: str, first: Layout, ask: Callable[[str], object]) -> Layout:
    """Ask for a manifest's key in each layout until one is there."""
    denied: AccessDenied | None = None
    for where in sorted(layout.layouts_of(name), key=lambda where: where is not first):
        try:
            ask(layout.manifest_key(name, top_hash, where))
        except ObjectMissing:
            continue
        except AccessDenied as exc:  # what S3 says of a missing object to those who may not list
            denied = denied or exc
        else:
            return where
    if denied is not None:
        raise denied
    raise HashNotFound(
        f"{_readable(store, layout.manifest_key(name, top_hash))} is not there: {name} has no version {top_hash}",
        hint="Check the hash, or name a tag",
    )


def put_manifest(store: ObjectStore, name: str, top_hash: str, source: Path, *, where: Layout = Layout.FUSEPKG) -> bool:
    """Put a manifest in the bucket; False if that layout holds one already, which stays.

    The top hash does not cover physical keys, so an older manifest of the same hash may name other objects with the
    same bytes; mounts may use it, so it stays.

    Raises: ObjectCollision if what lies under the key is not a manifest of that top hash, or lacks what this one has
    and the top hash does not cover: metadata of directories, and places that others can read.
    """
    key = layout.manifest_key(name, top_hash, where)
    try:
        store.create(key, source)
    except ObjectExists as exc:
        with tempfile.TemporaryDirectory(prefix="fusepkg-manifest-") as directory:
            there = Path(directory, "manifest")
            fetch_manifest(store, name, top_hash, there, first=where)
            if _same_bytes(there, source):
                return False
            try:
                same = compute_top_hash(there, allow_file_keys=True) == top_hash
            except (ManifestInvalid, UnsupportedFormat):
                same = False
            missing = _missing(store, there, source) if same else ""
        if not same:
            raise ObjectCollision(
                f"{_readable(store, key)} is damaged: it is not the manifest of that top hash",
                hint="Remove that object and push again",
            ) from exc
        if missing:
            raise ObjectCollision(
                f"{_readable(store, key)} is final: a version of the same contents was published {missing}",
                hint="Give this version another message, which makes it another one",
            ) from exc
        return False
    return True


def _missing(store: ObjectStore, there: Path, ours: Path) -> str:
    """What a manifest of the same top hash lacks, in words; empty where that is nothing."""
    their_meta, they_are_local = _beside_top_hash(there)
    our_meta, we_are_local = _beside_top_hash(ours)
    if they_are_local and not we_are_local and not names_local_files(store):
        return "that names files of one machine alone"
    changed = sorted(key for key, meta in our_meta.items() if their_meta.get(key) != meta)
    return f"with other metadata of {changed[0]}" if changed else ""


def _beside_top_hash(manifest: Path) -> tuple[dict[str, object], bool]:
    """Metadata of directories, and whether any entry lies in a file of a machine."""
    meta: dict[str, object] = {}
    is_local = False
    with manifest.open("rb") as file:
        reader = read_manifest(iter(lambda: file.read(_PIECE_BYTES), b""), allow_file_keys=True)
        for record in reader.records:
            if isinstance(record, DirectoryRecord):
                meta[record.logical_key] = record.meta
            else:
                is_local = is_local or record.url.startswith(b"file:")
    return meta, is_local


def compute_top_hash(manifest: Path, *, allow_file_keys: bool) -> str:
    """The top hash of a manifest in a file. Raises ManifestInvalid, UnsupportedFormat."""
    try:
        return _hash_ordered(manifest, lambda records: records, allow_file_keys=allow_file_keys)
    except OutOfOrder:
        return _hash_ordered(manifest, sorted_in_tree_order, allow_file_keys=allow_file_keys)


def _hash_ordered(manifest: Path, order: Callable[[_Records], _Records], *, allow_file_keys: bool) -> str:
    with manifest.open("rb") as file:
        reader = read_manifest(iter(lambda: file.read(_PIECE_BYTES), b""), allow_file_keys=allow_file_keys)
        top_hash = TopHash(reader.header)
        for record in in_tree_order(order(reader.records), {}):
            top_hash.update_canonical(record.canonical)
        return top_hash.hexdigest()


def names_local_files(store: ObjectStore) -> bool:
    """Whether manifests of this store name files of this machine, as those of a directory do."""
    return parse_physical_key(store.url("any")).scheme == "file"


def put_chunk_list(store: ObjectStore, digest: Digest, chunks: Sequence[bytes]) -> None:
    """Keep the raw SHA-256 of each chunk of a blob, so that a part of it can be verified without the rest."""
    if combine_chunks(chunks) != digest:
        raise ValueError(f"these are not the chunks of {digest}")
    key = layout.chunk_list_key(digest)
    data = b"".join(chunks)
    try:
        store.create(key, data)
    except ObjectExists:
        if not _holds(store, key, data):  # damaged: the name determines the content, so this mends it
            store.overwrite(key, data)


def _holds(store: ObjectStore, key: str, data: bytes) -> bool:
    """Whether an object has exactly these bytes."""
    try:
        return store.get(key, at_most=len(data)) == data
    except ObjectTooLarge:
        return False


def get_chunk_list(store: ObjectStore, digest: Digest) -> list[bytes]:
    """The raw SHA-256 of each chunk of a blob, verified.

    Raises: ObjectMissing if the bucket has no list for the blob, DigestMismatch if the list is not the blob's.
    """
    key = layout.chunk_list_key(digest)
    try:
        data = store.get(key, at_most=DIGEST_BYTES * MAX_CHUNKS)
    except ObjectTooLarge as exc:
        raise DigestMismatch(f"{exc.message}, and is no list of chunk hashes", hint=_MEND_HINT) from exc
    chunks = [data[at : at + DIGEST_BYTES] for at in range(0, len(data), DIGEST_BYTES)]
    if combine_chunks(chunks) != digest:
        raise DigestMismatch(f"{store.url(key)} does not hold the chunk hashes of {digest}", hint=_MEND_HINT)
    return chunks


def _readable(store: ObjectStore, key: str) -> str:
    return parse_physical_key(store.url(key)).readable


def _same_bytes(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as left, other.open("rb") as right:
        return all(piece == right.read(_PIECE_BYTES) for piece in iter(lambda: left.read(_PIECE_BYTES), b""))
