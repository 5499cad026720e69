"""What a push does where objects of older versions are gone or damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusepkg.errors import FileChanged
from fusepkg.model.reference import parse_reference
from fusepkg.publish.push import push_folder
from fusepkg.registry.layout import manifest_key
from fusepkg.store.directory import DirectoryStore
from fusepkg.store.protocol import ObjectStore
from tests.unit.publish.pushes import V1, contents, fill, push
from tests.unit.publish.recording import RecordingStore
from tests.unit.publish.stores import GivenStores


def remove(store: ObjectStore, key: str) -> None:
    if isinstance(store, DirectoryStore):
        (store.root / key).unlink()
    else:
        del store._objects[key]


def test_a_missing_object_is_uploaded_again_under_its_own_key(store: ObjectStore, folder: Path) -> None:
    fill(folder, V1)
    first = push(store, folder)
    remove(store, "ns/data/a.txt")
    again = push(store, folder)
    assert contents(store, first.top_hash) == V1
    assert (again.top_hash, again.uploaded_objects, again.repaired_objects) == (first.top_hash, 1, 1)
    assert store.get("ns/data/a.txt") == b"one"
    assert push(store, folder).uploaded_objects == 0


def test_a_missing_object_of_an_older_version_is_uploaded_for_a_new_one(store: ObjectStore, folder: Path) -> None:
    fill(folder, V1)
    push(store, folder)
    remove(store, "ns/data/b/c.txt")
    fill(folder, {"new": b"x"})
    pushed = push_folder(folder, parse_reference("bucket/ns/data:v2"), GivenStores(store))
    assert contents(store, pushed.top_hash) == V1 | {"new": b"x"}
    assert pushed.repaired_objects == 1


def test_a_missing_manifest_is_written_again(store: ObjectStore, folder: Path) -> None:
    fill(folder, V1)
    first = push(store, folder)
    remove(store, str(Path(manifest_key("ns/data", first.top_hash))))
    again = push(store, folder)
    assert (again.top_hash, again.tag_moved, again.uploaded_objects) == (first.top_hash, False, 0)
    assert contents(store, first.top_hash) == V1


def test_a_missing_chunk_list_is_written_again(store: ObjectStore, folder: Path) -> None:
    fill(folder, {"large": bytes(9 << 20)})
    push(store, folder)
    (chunk_list,) = [info.key for info in store.list(".quilt/chunks/")]
    kept = store.get(chunk_list)
    remove(store, chunk_list)
    assert push(store, folder).uploaded_objects == 0
    assert store.get(chunk_list) == kept


def test_other_content_under_an_object_s_key_stays_and_the_version_names_a_new_object(
    store: ObjectStore, folder: Path
) -> None:
    fill(folder, V1)
    first = push(store, folder)
    remove(store, "ns/data/a.txt")
    store.create("ns/data/a.txt", b"somebody else's")
    again = push(store, folder)
    assert again.top_hash == first.top_hash
    assert store.get("ns/data/a.txt") == b"somebody else's"
    assert contents(store, first.top_hash) == V1


@pytest.mark.parametrize("told", ["check", "suspect"])
def test_damaged_bytes_of_the_right_size_are_found_when_asked_for(store: ObjectStore, folder: Path, told: str) -> None:
    fill(folder, V1)
    first = push(store, folder)
    found = store.head("ns/data/a.txt")
    if isinstance(store, DirectoryStore):
        (store.root / "ns/data/a.txt").write_bytes(b"0ne")
    else:
        (one,) = store._objects["ns/data/a.txt"]
        store._objects["ns/data/a.txt"] = [type(one)(b"0ne", one.info)]
    assert not push(store, folder).uploaded_objects
    suspects = frozenset([store.url("ns/data/a.txt", found.version)] if told == "suspect" else [])
    again = push(store, folder, check=told == "check", suspects=suspects)
    assert (again.top_hash, again.repaired_objects) == (first.top_hash, 1)
    assert contents(store, first.top_hash) == V1


def test_many_objects_are_looked_for_in_one_listing(store: ObjectStore, folder: Path) -> None:
    wanted = {f"{number:03}": b"%d" % number for number in range(150)}
    fill(folder, wanted)
    push(store, folder)
    remove(store, "ns/data/077")
    fill(folder, {"new": b"x"})
    recording = RecordingStore(store)
    pushed = push_folder(folder, parse_reference("bucket/ns/data:v2"), GivenStores(recording))
    assert contents(store, pushed.top_hash) == wanted | {"new": b"x"}
    assert (pushed.uploaded_objects, pushed.repaired_objects) == (2, 1)
    assert set(recording.keys("head", "ns/data/")) == {"ns/data/077", "ns/data/new"}
    listings = [] if isinstance(store, DirectoryStore) else ["ns/data/"]  # files are looked at one by one
    assert recording.keys("list", "ns/data/") == listings


def test_a_push_to_a_new_tag_starts_from_the_newest_version_of_any_tag(store: ObjectStore, folder: Path) -> None:
    wanted = {f"{number:03}": b"%d" % number for number in range(30)}
    fill(folder, wanted)
    push_folder(folder, parse_reference("bucket/ns/data:v1"), GivenStores(store))
    fill(folder, {"007": b"other"})
    push_folder(folder, parse_reference("bucket/ns/data:v2"), GivenStores(store))
    fill(folder, {"008": b"another"})
    recording = RecordingStore(store)
    pushed = push_folder(folder, parse_reference("bucket/ns/data:v3"), GivenStores(recording))
    assert (pushed.uploaded_objects, pushed.reused_objects) == (1, 29)
    assert all(key.startswith("ns/data/008") for key in recording.keys("head", "ns/data/"))


def test_files_of_a_registry_with_any_names_are_found_without_opening_them(store: ObjectStore, folder: Path) -> None:
    wanted = {name: name.encode() for name in ("a b", "ü/ß", "100%", "x~f", "y#?&", *map(str, range(20)))}
    fill(folder, wanted)
    first = push(store, folder)
    recording = RecordingStore(store)
    again = push(recording, folder)
    assert (again.top_hash, again.uploaded_objects) == (first.top_hash, 0)
    assert recording.keys("head", "ns/data/") == []
    assert contents(store, first.top_hash) == wanted


def test_a_file_that_grew_after_it_was_scanned_ends_the_push(store: ObjectStore, folder: Path) -> None:
    fill(folder, V1)

    def grow(call: str, key: str) -> None:
        if key.startswith(".quilt/packages/"):
            (folder / "a.txt").write_bytes(b"more than before")

    with pytest.raises(FileChanged):
        push(RecordingStore(store, before=grow), folder)
