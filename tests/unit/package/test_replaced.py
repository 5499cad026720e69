"""Versions that were healed after they were opened: their objects are found where they lie now."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusepkg.model.reference import parse_reference
from fusepkg.package.open import OpenedPackage, open_package
from fusepkg.package.replaced import PAUSE_S, ReplacedPlaces
from fusepkg.publish.push import push_folder
from fusepkg.registry.resolve import resolve
from fusepkg.store.memory import MemoryStore
from tests.unit.publish.stores import GivenStores

REFERENCE = parse_reference("bucket/ns/data:v1")
FILES = {"a": b"one", "b/c": b"two", "b.c": b"three", "d": b""}


class Clock:
    """Stands still."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Machine:
    """A bucket, a folder that is published there, and what one machine keeps."""

    def __init__(self, directory: Path) -> None:
        self.store = MemoryStore()
        self.folder = directory / "folder"
        self.indexes = directory / "indexes"
        self.clock = Clock()
        self.places = ReplacedPlaces(self.store, self.clock)
        for name, data in FILES.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(data)

    def push(self) -> None:
        """Publish the folder, and heal what is missing."""
        push_folder(self.folder, REFERENCE, GivenStores(self.store), check=True)

    def open(self) -> OpenedPackage:
        """Open it."""
        return open_package(self.store, resolve(self.store, REFERENCE), self.indexes, lambda *_: None)

    def spoil(self, key: str) -> None:
        """Put other bytes in the place of an object."""
        self.store.overwrite(key, b"!" * len(self.store.get(key)))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    found = Machine(tmp_path)
    found.push()
    return found


def test_an_object_is_found_where_the_manifest_says_now_and_the_index_learns_it(machine: Machine) -> None:
    opened = machine.open()
    machine.places.note(opened)
    machine.spoil("ns/data/b/c")
    machine.push()
    entries = {entry.logical_key: entry for entry in opened.index.entries}
    place = machine.places.find(entries["b/c"])
    assert place is not None
    assert machine.store.get(place.key) == b"two"
    assert [machine.places.find(entries[key]) for key in ("a", "b.c", "d")] == [None, None, None]
    again = {entry.logical_key: entry.physical_key for entry in machine.open().index.entries}
    assert again == {key: entry.physical_key for key, entry in entries.items()} | {"b/c": place}


def test_a_manifest_is_not_read_for_each_damaged_object_but_after_a_while(machine: Machine) -> None:
    opened = machine.open()
    machine.places.note(opened)
    entry = next(entry for entry in opened.index.entries if entry.logical_key == "a")
    assert machine.places.find(entry) is None
    machine.spoil("ns/data/a")
    machine.push()
    assert machine.places.find(entry) is None
    machine.clock.now_s += PAUSE_S
    assert machine.places.find(entry) is not None


def test_entries_of_other_versions_and_a_bucket_that_is_gone_give_nothing(machine: Machine) -> None:
    opened = machine.open()
    entry = next(iter(opened.index.entries))
    assert machine.places.find(entry) is None
    machine.places.note(opened)
    machine.store._objects.clear()
    assert machine.places.find(entry) is None
