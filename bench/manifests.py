"""Packages of the registry `local` that are made without a push: of files where they lie, or of no files at all."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from fusepkg_cache.digest import Algorithm, Digest

from fusepkg.model.entry import Entry
from fusepkg.model.logical_key import tree_sort_key
from fusepkg.model.manifest import FORMAT_VERSION, write_entry, write_header
from fusepkg.model.physical_key import PhysicalKey
from fusepkg.model.tophash import TopHash
from fusepkg.publish.hash.files import hash_bytes
from fusepkg.registry.manifests import put_manifest
from fusepkg.registry.tags import move_tag
from fusepkg.store.directory import DirectoryStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

TAG = "bench"
FILES_PER_DIRECTORY = 100


def folder_entries(source: Path) -> Iterator[Entry]:
    """Yield the entries of a folder of small files, whose objects are these files where they lie.

    The registry `local` reads its objects where they lie too: a push would only copy them first.
    """
    paths = {str(path.relative_to(source)): path for path in source.rglob("*") if path.is_file()}
    for key in sorted(paths, key=tree_sort_key):
        data = paths[key].read_bytes()
        yield Entry(key, PhysicalKey("file", "", str(paths[key])), len(data), hash_bytes(data).digest)


def synthetic_names(count: int) -> list[str]:
    """Return so many names of pictures, 100 in a directory, in the order of a manifest."""
    names = (f"d{number // FILES_PER_DIRECTORY:05}/image_{number:08}.jpg" for number in range(count))
    return sorted(names, key=tree_sort_key)


def synthetic_entries(count: int) -> Iterator[Entry]:
    """Yield entries with these names whose objects are nowhere: only names and sizes can be asked for."""
    for key in synthetic_names(count):
        value = hashlib.sha256(key.encode()).digest()
        size = 1 + int.from_bytes(value[:4], "big") % 200_000
        physical = PhysicalKey("file", "", f"/nowhere/{key}")
        yield Entry(key, physical, size, Digest(Algorithm.SHA2_256_CHUNKED, value))


def publish_entries(data: Path, scratch: Path, name: str, entries: Iterable[Entry], tag: str = TAG) -> None:
    """Put a manifest straight into the registry `local` below ``data``, and tag it."""
    header = {"version": FORMAT_VERSION, "message": None}
    top_hash = TopHash(header)
    manifest = scratch / f"{name}.jsonl"
    with manifest.open("wb") as file:
        file.write(write_header(header))
        for entry in entries:
            top_hash.update(entry)
            file.write(write_entry(entry))
    store = DirectoryStore(data / "local")
    put_manifest(store, name, top_hash.hexdigest(), manifest)
    move_tag(store, name, tag, top_hash.hexdigest(), None)
    manifest.unlink()
