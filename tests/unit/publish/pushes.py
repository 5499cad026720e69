"""Folders of tests, pushing them, and reading what a push has made."""

from __future__ import annotations

from pathlib import Path

from fusepkg.model.manifest import read_manifest
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.model.record import EntryRecord
from fusepkg.model.reference import parse_reference
from fusepkg.publish.push import Pushed, push_folder
from fusepkg.registry.layout import manifest_key
from fusepkg.store.protocol import ObjectStore
from tests.unit.publish.stores import GivenStores

REFERENCE = parse_reference("bucket/ns/data")


def fill(folder: Path, files: dict[str, bytes]) -> None:
    for key, content in files.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def push(store: ObjectStore, folder: Path, **options: object) -> Pushed:
    return push_folder(folder, REFERENCE, GivenStores(store), **options)


def records(store: ObjectStore, top_hash: str, name: str = "ns/data") -> dict[str, EntryRecord]:
    data = store.get(manifest_key(name, top_hash))
    found = read_manifest([data], allow_file_keys=True).records
    return {record.key.decode(): record for record in found if isinstance(record, EntryRecord)}


def content(store: ObjectStore, record: EntryRecord) -> bytes:
    """The bytes behind an entry, found through its physical key alone."""
    physical_key = parse_physical_key(record.url.decode())
    if physical_key.scheme == "file":
        return Path(physical_key.key).read_bytes()
    return store.get(physical_key.key, version=physical_key.version)


def contents(store: ObjectStore, top_hash: str) -> dict[str, bytes]:
    return {key: content(store, record) for key, record in records(store, top_hash).items()}


V1 = {"a.txt": b"one", "b/c.txt": b"two", "b/same.txt": b"one", "empty": b""}
