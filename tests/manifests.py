"""Entries and manifests for tests, short to write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fusepkg_cache.digest import Algorithm, compute_digest

from fusepkg.model.entry import EMPTY_DIRECTORY_NAME, Entry, EntryKind, meta_for
from fusepkg.model.logical_key import tree_sort_key
from fusepkg.model.manifest import write_entry, write_header
from fusepkg.model.physical_key import PhysicalKey
from fusepkg.model.tophash import TopHash

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HEADER: dict[str, Any] = {"version": "v0", "message": None}


def file_entry(key: str, data: bytes = b"", *, size: int | None = None, meta: Mapping[str, Any] | None = None) -> Entry:
    """A plain file of these bytes; ``size`` pretends that it has more."""
    digest = compute_digest(Algorithm.SHA2_256_CHUNKED, data)
    return Entry(key, PhysicalKey("s3", "bucket", key, "v1"), len(data) if size is None else size, digest, meta or {})


def executable_entry(key: str, data: bytes = b"#!/bin/sh\n") -> Entry:
    """A file to be run."""
    return file_entry(key, data, meta=meta_for(EntryKind.EXECUTABLE))


def symlink_entry(key: str, target: str) -> Entry:
    """A symbolic link."""
    return file_entry(key, target.encode(), meta=meta_for(EntryKind.SYMLINK, symlink=target))


def empty_directory_entry(directory: str) -> Entry:
    """What keeps an empty directory; "" is the root."""
    return file_entry(f"{directory}/{EMPTY_DIRECTORY_NAME}".lstrip("/"), meta=meta_for(EntryKind.EMPTY_DIRECTORY))


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """Entries in tree order."""
    return sorted(entries, key=lambda entry: tree_sort_key(entry.logical_key))


def manifest_of(entries: Iterable[Entry], header: Mapping[str, Any] = HEADER) -> bytes:
    """The manifest of these entries, in the order given."""
    return write_header(header) + b"".join(map(write_entry, entries))


def top_hash_of(entries: Iterable[Entry], header: Mapping[str, Any] = HEADER) -> str:
    """The top hash of these entries, whatever their order."""
    top_hash = TopHash(header)
    for entry in in_order(entries):
        top_hash.update(entry)
    return top_hash.hexdigest()
