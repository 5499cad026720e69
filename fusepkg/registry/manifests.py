"""Find, fetch and put manifests and chunk lists in a bucket.

A manifest is looked for in every layout a registry may have: a tag of ours may name one that quilt3 wrote.
"""

from __future__ import annotations

import enum
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

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
from fusepkg.model.manifest import (
    OutOfOrder,
    in_tree_order,
    read_manifest,
    sorted_in_tree_order,
    write_directory,
    write_entry,
)
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.model.record import DirectoryRecord, EntryRecord
from fusepkg.model.tophash import TopHash
from fusepkg.registry import layout
from fusepkg.registry.layout import Layout
from fusepkg.registry.races import RACE_PAUSE_S, RACE_TRIES
from fusepkg.store.protocol import no_more_than

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Sequence

    from fusepkg_cache.digest import Digest

    from fusepkg.model.manifest import ManifestReader
    from fusepkg.store.protocol import ObjectStore

    _Records = Iterable[EntryRecord | DirectoryRecord]

_MEND_HINT = "Push the package again to mend it"

MAX_MANIFEST_BYTES = 64 * 1024**3
"""The largest manifest that is read, to a disk: some 200 million entries. An answer without an end ends there."""

_PIECE_BYTES = 1 << 20
"""Manifests are streamed in pieces of this size: memory does not grow with them."""


def fetch_manifest(
    store: ObjectStore, name: str, top_hash: str, into: Path, *, first: Layout = Layout.FUSEPKG
) -> Layout:
    """Download one manifest to a new file and return the layout it was found in; ``first`` is asked first.

    A failure leaves no file. The bytes are not checked: parsing computes the top hash.

    Raises: HashNotFound, and what stores raise.
    """

    def fetch(key: str) -> None:
        with into.open("wb") as file:
            for piece in no_more_than(MAX_MANIFEST_BYTES, store.stream(key, piece_bytes=_PIECE_BYTES), key):
                file.write(piece)

    try:
        return _try_layouts(store, name, top_hash, first, fetch)
    except BaseException:
        into.unlink(missing_ok=True)
        raise


def find_manifest(store: ObjectStore, name: str, top_hash: str, *, first: Layout = Layout.FUSEPKG) -> str:
    """Return the key of a manifest, with one HEAD per layout. Raises HashNotFound, and what stores raise."""
    return layout.manifest_key(name, top_hash, _try_layouts(store, name, top_hash, first, store.head))


def has_manifest(store: ObjectStore, name: str, top_hash: str) -> bool:
    """Return whether the bucket holds a manifest, in any layout."""
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


class ManifestPut(enum.Enum):
    """The result of putting a manifest."""

    CREATED = "created"
    KEPT = "kept"
    """There was one that names the same objects."""
    PLACES_REPLACED = "places replaced"
    """There was one that named other objects, out of reach or out of date; the one that is there now names ours."""
    MENDED = "mended"
    """What was there was not the manifest of that top hash."""

    @property
    def is_ours(self) -> bool:
        """Whether the bucket's manifest now has exactly the bytes that were put."""
        return self in (ManifestPut.CREATED, ManifestPut.MENDED)

    @property
    def is_news(self) -> bool:
        """Whether an existing manifest was replaced, so that indexes built from it name other objects."""
        return self in (ManifestPut.PLACES_REPLACED, ManifestPut.MENDED)


def put_manifest(
    store: ObjectStore,
    name: str,
    top_hash: str,
    source: Path,
    *,
    where: Layout = Layout.FUSEPKG,
    broken: Container[str] = frozenset(),
) -> ManifestPut:
    """Put a manifest in the bucket; replace one of the same top hash if it names worse places of objects.

    The top hash does not cover physical keys. An object in this bucket is preferred to one in another, and that to a
    file of one machine; among equals ours is taken. ``broken`` are physical keys that cannot be read. What lies under
    the key and is not the manifest of that top hash is damaged, and replaced.

    Raises: ObjectCollision if the one that is there lacks what this one has and the top hash does not cover, metadata
    of directories, or if this version of fusepkg cannot read it.
    """
    key = layout.manifest_key(name, top_hash, where)
    for tries_left in reversed(range(RACE_TRIES)):
        try:
            store.create(key, source)
        except ObjectExists as exc:
            try:
                return _meet(store, key, top_hash, source, broken, exc)
            except ObjectMissing:
                if not tries_left:  # else it was of a publisher who was not first
                    raise
                time.sleep(RACE_PAUSE_S)
        else:
            return ManifestPut.CREATED
    raise AssertionError("the last try returns or raises")


def _meet(
    store: ObjectStore, key: str, top_hash: str, source: Path, broken: Container[str], exists: ObjectExists
) -> ManifestPut:
    """Compare what lies under the key with ours, and replace it where ours is better. Raises ObjectMissing, too."""
    with tempfile.TemporaryDirectory(prefix="fusepkg-manifest-") as directory:
        there, merged = Path(directory, "there"), Path(directory, "merged")
        with there.open("wb") as file:
            for piece in no_more_than(MAX_MANIFEST_BYTES, store.stream(key, piece_bytes=_PIECE_BYTES), key):
                file.write(piece)
        if _same_bytes(there, source):
            return ManifestPut.KEPT
        if not _is_manifest_of(there, top_hash, _readable(store, key)):
            store.overwrite(key, source)
            return ManifestPut.MENDED
        if (directory_key := _other_metadata(there, source)) is not None:
            raise ObjectCollision(
                f"{_readable(store, key)} is final: a version of the same contents was published with other "
                f"metadata of {directory_key}",
                hint="Give this version another message, which makes it another one",
            ) from exists
        if not _merge_places(store, there, source, merged, broken):
            return ManifestPut.KEPT
        store.overwrite(key, merged)
        return ManifestPut.PLACES_REPLACED


def _is_manifest_of(manifest: Path, top_hash: str, shown: str) -> bool:
    try:
        return compute_top_hash(manifest, allow_file_keys=True) == top_hash
    except ManifestInvalid:
        return False
    except UnsupportedFormat as exc:
        raise ObjectCollision(
            f"{shown} cannot be read ({exc.message})", hint="Publish with the version of fusepkg that wrote it"
        ) from exc


def _other_metadata(there: Path, ours: Path) -> str | None:
    """Return a directory of which the manifest that is there has other metadata than ours; None if there is none."""
    theirs = _directories(there)
    return min((key for key, meta in _directories(ours).items() if theirs.get(key) != meta), default=None)


def _directories(manifest: Path) -> dict[str, dict[str, Any]]:
    with manifest.open("rb") as file:
        return {one.logical_key: one.meta for one in _read(file).records if isinstance(one, DirectoryRecord)}


def _merge_places(store: ObjectStore, there: Path, ours: Path, into: Path, broken: Container[str]) -> bool:
    """Write the existing manifest with the better place of each entry; False if no place of ours is better."""
    here = store.url("~")[:-1].encode()
    local = names_local_files(store)

    def rank(url: bytes) -> int:
        if url.startswith(here):
            return 0
        return 2 if url.startswith(b"file:") and not local else 1

    changed = False
    with there.open("rb") as their_file, ours.open("rb") as our_file, into.open("wb") as merged:
        merged.write(their_file.readline())
        their_file.seek(0)
        for record in _ordered(their_file):
            if isinstance(record, DirectoryRecord):
                merged.write(write_directory(record.logical_key, record.meta))
        their_file.seek(0)
        our_entries = (one for one in _ordered(our_file) if isinstance(one, EntryRecord))
        their_entries = (one for one in _ordered(their_file) if isinstance(one, EntryRecord))
        for their, our in zip(their_entries, our_entries, strict=True):
            better = rank(our.url) <= rank(their.url) or their.url.decode() in broken
            takes_ours = our.url != their.url and better and our.url.decode() not in broken
            changed = changed or takes_ours
            merged.write(write_entry((our if takes_ours else their).entry()))
    return changed


def _read(file: BinaryIO) -> ManifestReader:
    return read_manifest(iter(lambda: file.read(_PIECE_BYTES), b""), allow_file_keys=True)


def _ordered(file: BinaryIO) -> Iterator[EntryRecord | DirectoryRecord]:
    """Return all records in tree order; sorts them in memory if the manifest is not in that order."""
    try:
        for _ in in_tree_order(_read(file).records, {}):
            pass
    except OutOfOrder:
        file.seek(0)
        yield from sorted_in_tree_order(_read(file).records)
    else:
        file.seek(0)
        yield from _read(file).records


def compute_top_hash(manifest: Path, *, allow_file_keys: bool) -> str:
    """Return the top hash of a manifest in a file. Raises ManifestInvalid, UnsupportedFormat."""
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
    """Return whether manifests of this store name files of this machine: True for directories."""
    return parse_physical_key(store.url("any")).scheme == "file"


def put_chunk_list(store: ObjectStore, digest: Digest, chunks: Sequence[bytes]) -> None:
    """Put the raw SHA-256 of each chunk of a blob into the registry, so that one chunk can be verified alone."""
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
    """Return whether an object has exactly these bytes."""
    try:
        return store.get(key, at_most=len(data)) == data
    except ObjectTooLarge:
        return False


def get_chunk_list(store: ObjectStore, digest: Digest) -> list[bytes]:
    """Return the raw SHA-256 of each chunk of a blob, verified.

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
