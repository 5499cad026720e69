"""Putting objects that are missing or damaged into the bucket again, from a directory that has good copies.

An object that is missing is put where it was. One that holds other bytes stays, because another version may name these:
its right bytes get a key with their hash in it, and every manifest of the package that names the old object is made to
name the new one. Top hashes do not cover places, so each version stays what it is.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg_cache.digest import Hashing

from fusepkg.check.directory import Difference, DifferenceKind
from fusepkg.errors import HashNotFound, ObjectExists
from fusepkg.model.entry import EntryKind
from fusepkg.model.manifest import read_manifest, write_directory, write_entry
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.model.record import DirectoryRecord
from fusepkg.publish.upload.keys import content_key
from fusepkg.publish.upload.upload import DIGEST_METADATA
from fusepkg.registry.catalogue import list_tags
from fusepkg.registry.layout import package_prefix, parse_manifest_key
from fusepkg.registry.manifests import fetch_manifest, put_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fusepkg.model.entry import Entry
    from fusepkg.store.protocol import ObjectStore

_PIECE_BYTES = 1 << 20
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""O_NONBLOCK for a FIFO: its open must not wait for a writer."""


@dataclass(slots=True)
class Repaired:
    """What was done: new physical keys by old ones, the versions whose manifests name other objects now, and
    what is still wrong."""

    restored: dict[str, str] = field(default_factory=dict)
    versions: list[str] = field(default_factory=list)
    left: list[Difference] = field(default_factory=list)


def repair_objects(
    store: ObjectStore,
    name: str,
    top_hash: str,
    differences: Iterable[Difference],
    directory: Path,
) -> Repaired:
    """Put the objects of ``differences`` again from files of their names in ``directory`` that have their bytes.

    ``store`` is the registry's of the package ``name``, ``top_hash`` the version that was checked. Nothing in the
    directory is trusted: each file is hashed. Raises what stores raise.
    """
    repaired = Repaired()
    with tempfile.TemporaryDirectory(prefix="fusepkg-repair-") as scratch:
        copy = Path(scratch, "copy")
        for difference in differences:
            entry = difference.entry
            if entry is None or str(entry.physical_key) in repaired.restored:
                continue
            if not _take_copy(directory, entry, copy):
                words = f"{difference.reason}; {directory} has no file with its bytes under that name"
                repaired.left.append(replace(difference, reason=words))
                continue
            is_missing = difference.kind is DifferenceKind.MISSING
            repaired.restored[str(entry.physical_key)] = _put(store, name, entry, copy, is_missing=is_missing)
        moved = {old: new for old, new in repaired.restored.items() if old != new}
        if moved:
            for version in _versions(store, name, top_hash):
                if _name_elsewhere(store, name, version, moved, Path(scratch)):
                    repaired.versions.append(version)
    return repaired


def _take_copy(directory: Path, entry: Entry, into: Path) -> bool:
    """Copy a file of an entry's name; False unless the copy has the entry's bytes."""
    path = directory / entry.logical_key
    hashing, size = Hashing(entry.digest.algorithm, entry.size), 0
    try:
        if entry.kind is EntryKind.SYMLINK:
            pieces: Iterable[bytes] = [os.fsencode(os.readlink(path))]
        else:
            pieces = _pieces(path) if entry.size else []
        with into.open("wb") as file:
            for piece in pieces:
                size += len(piece)
                if size > entry.size:
                    return False
                hashing.update(piece)
                file.write(piece)
    except (OSError, ValueError):  # ValueError: a name with NUL
        return False
    return size == entry.size and entry.digest.matches(hashing.digest())


def _pieces(path: Path) -> Iterable[bytes]:
    descriptor = os.open(path, _FLAGS)
    try:
        while piece := os.read(descriptor, _PIECE_BYTES):
            yield piece
    finally:
        os.close(descriptor)


def _put(store: ObjectStore, name: str, entry: Entry, copy: Path, *, is_missing: bool) -> str:
    """Put an entry's bytes; return the physical key that they have now."""
    place = entry.physical_key
    here = store.url("~")[:-1]
    is_here = str(place).startswith(here)
    root = parse_physical_key(f"{here}~").key[:-1]
    key = place.key.removeprefix(root) if is_here else f"{name}/{entry.logical_key}"
    metadata = {DIGEST_METADATA: str(entry.digest)}
    if is_here and is_missing and place.version is None:
        try:
            info = store.create(key, copy, metadata=metadata)
            return store.url(info.key, info.version)
        except ObjectExists:
            pass  # somebody was faster: perhaps with other bytes
    info = store.overwrite(content_key(key, name, entry.digest.hex), copy, metadata=metadata)
    return store.url(info.key, info.version)


# --- manifests -----------------------------------------------------------------------------------------------


def _versions(store: ObjectStore, name: str, top_hash: str) -> list[str]:
    """Return the top hashes of the versions of a package that the bucket has or names, the given one first."""
    listed = (parse_manifest_key(info.key) for info in store.list(package_prefix(name)))
    tagged = (named.top_hash for named in list_tags(store, name, skip=lambda _: None))
    return list(dict.fromkeys([top_hash, *(found for found in listed if found), *tagged]))


def _name_elsewhere(store: ObjectStore, name: str, top_hash: str, moved: dict[str, str], scratch: Path) -> bool:
    """Have a manifest name new objects for old ones; return whether it named any of these."""
    there, ours = scratch / "there", scratch / "ours"
    try:
        where = fetch_manifest(store, name, top_hash, there)
    except HashNotFound:
        return False
    changed = False
    with there.open("rb") as file, ours.open("wb") as output:
        output.write(file.readline())
        file.seek(0)
        for record in read_manifest(iter(lambda: file.read(_PIECE_BYTES), b""), allow_file_keys=True).records:
            if isinstance(record, DirectoryRecord):
                output.write(write_directory(record.logical_key, record.meta))
                continue
            entry = record.entry()
            new = moved.get(str(entry.physical_key))
            changed = changed or new is not None
            output.write(write_entry(entry if new is None else replace(entry, physical_key=parse_physical_key(new))))
    if changed:
        put_manifest(store, name, top_hash, ours, where=where, broken=frozenset(moved))
    return changed
