"""Objects, lists and packs of a bucket that are damaged: found, and put again from good copies."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fusepkg_cache.digest import MIN_CHUNK_BYTES

from fusepkg.check.directory import Difference
from fusepkg.check.lists import check_lists, check_packs, mend_lists
from fusepkg.check.objects import check_objects
from fusepkg.check.repair import Repaired, repair_objects
from fusepkg.index.build import build_index
from fusepkg.index.opening import Index, open_index
from fusepkg.model.block_hashes import block_root
from fusepkg.publish.packs import pack_version
from fusepkg.registry.layout import block_list_key, chunk_list_key, manifest_key, pack_table_key
from fusepkg.registry.manifests import compute_top_hash
from fusepkg.store.memory import MemoryStore
from tests.unit.publish.pushes import contents, fill, push
from tests.unit.publish.stores import GivenStores

V1 = {"same.txt": b"the same", "changed.txt": b"old", "deep/er.txt": b"deeper"}
V2 = V1 | {"changed.txt": b"new"}


class Lossy(MemoryStore):
    """A bucket whose objects may be lost or damaged."""

    def lose(self, key: str) -> None:
        del self._objects[key]

    def damage(self, key: str, data: bytes) -> None:
        was = self._objects[key]
        self._objects[key] = [*was[:-1], type(was[-1])(data, was[-1].info)]


@pytest.fixture(params=["plain", "versioned"])
def store(request: pytest.FixtureRequest) -> Lossy:
    return Lossy("bucket", versioned=request.param == "versioned")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


def index_of(store: MemoryStore, top_hash: str, root: Path) -> Index:
    root.mkdir(exist_ok=True)
    manifest = root / "manifest.jsonl"
    manifest.write_bytes(store.get(manifest_key("ns/data", top_hash)))
    build_index(manifest, root, expected_top_hash=top_hash, allow_file_keys=False)
    index = open_index(root, top_hash)
    assert index is not None
    return index


def found(store: MemoryStore, index: Index) -> list[Difference]:
    return check_objects(index.entries, GivenStores(store).for_key, count=0, total_bytes=0).differences


def repaired(store: MemoryStore, index: Index, copies: Path) -> Repaired:
    return repair_objects(store, "ns/data", index.top_hash, found(store, index), copies)


def two_versions(store: MemoryStore, folder: Path) -> tuple[str, str]:
    fill(folder, V1)
    old = push(store, folder).top_hash
    fill(folder, V2)
    return old, push(store, folder).top_hash


def test_what_is_lost_is_put_again_for_all_versions_that_name_it(store: Lossy, folder: Path, tmp_path: Path):
    old, new = two_versions(store, folder)
    index = index_of(store, new, tmp_path / "index")
    for key in ("same.txt", "deep/er.txt"):
        store.lose(f"ns/data/{key}")
    assert [one.logical_key for one in found(store, index)] == ["deep/er.txt", "same.txt"]
    assert repaired(store, index, folder).left == []
    assert contents(store, new) == V2
    assert contents(store, old) == V1


def test_what_is_damaged_gets_another_key_and_all_manifests_name_it(store: Lossy, folder: Path, tmp_path: Path):
    old, new = two_versions(store, folder)
    index = index_of(store, new, tmp_path / "index")
    store.damage("ns/data/same.txt", b"WRONG!!!")
    done = repaired(store, index, folder)
    assert set(done.versions) == {old, new}
    assert store.get("ns/data/same.txt") == b"WRONG!!!", "another version may name these bytes"
    assert contents(store, new) == V2
    assert contents(store, old) == V1
    for top_hash in (old, new):
        manifest = tmp_path / "manifest"
        manifest.write_bytes(store.get(manifest_key("ns/data", top_hash)))
        assert compute_top_hash(manifest, allow_file_keys=False) == top_hash
    assert found(store, index_of(store, new, tmp_path / "again")) == []


@pytest.mark.parametrize("copy", [b"the SAME", b"the same and more", b"", None, "directory", "link"])
def test_a_copy_with_other_bytes_is_not_taken(store: Lossy, folder: Path, tmp_path: Path, copy: bytes | str | None):
    _, new = two_versions(store, folder)
    index = index_of(store, new, tmp_path / "index")
    store.lose("ns/data/same.txt")
    path = folder / "same.txt"
    path.unlink()
    if isinstance(copy, bytes):
        path.write_bytes(copy)
    elif copy == "directory":
        path.mkdir()
    elif copy == "link":
        path.symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere").write_bytes(V1["same.txt"])
    done = repaired(store, index, folder)
    assert [(one.logical_key, "no file with its bytes" in one.reason) for one in done.left] == [("same.txt", True)]
    assert done.restored == {}


def test_a_link_and_an_empty_file_are_put_again_too(store: Lossy, folder: Path, tmp_path: Path):
    fill(folder, {"a": b"a", "empty": b""})
    (folder / "link").symlink_to("empty")
    top_hash = push(store, folder).top_hash
    index = index_of(store, top_hash, tmp_path / "index")
    for key in ("empty", "link"):
        store.lose(f"ns/data/{key}")
    assert repaired(store, index, folder).left == []
    assert contents(store, top_hash) == {"a": b"a", "empty": b"", "link": b"empty"}


# --- lists and packs -------------------------------------------------------------------------------------------


def test_damaged_lists_of_hashes_are_found_and_mended(folder: Path, tmp_path: Path):
    store = Lossy("bucket")
    fill(folder, {"large": random.Random(5).randbytes(MIN_CHUNK_BYTES + 70_000), "small": b"small"})
    index = index_of(store, push(store, folder, block_hashes=True).top_hash, tmp_path / "index")
    assert check_lists(store, index.entries) == []
    (large,) = (entry for entry in index.entries if entry.logical_key == "large")
    root = block_root(large.meta)
    assert root is not None
    lists = chunk_list_key(large.digest), block_list_key(root)
    before = [store.get(key) for key in lists]
    for key, data in zip(lists, before, strict=True):
        store.damage(key, data[:-1] + bytes([data[-1] ^ 1]))
    assert ["damaged" in one.reason for one in check_lists(store, index.entries)] == [True, True]
    assert mend_lists(store, large, GivenStores(store).for_key)
    assert check_lists(store, index.entries) == []
    assert [store.get(key) for key in lists] == before
    store.lose(lists[1])
    assert ["lacks its block hashes" in one.reason for one in check_lists(store, index.entries)] == [True]
    store.damage(large.physical_key.key, bytes(large.size))
    assert not mend_lists(store, large, GivenStores(store).for_key)
    store.lose(large.physical_key.key)
    assert not mend_lists(store, large, GivenStores(store).for_key)


def test_damaged_and_missing_packs_are_found_and_written_again(folder: Path, tmp_path: Path):
    store = Lossy("bucket")
    fill(folder, {f"{number}": b"%d" % number for number in range(300)})
    index = index_of(store, push(store, folder).top_hash, tmp_path / "index")
    assert check_packs(store, index) == []
    (name,) = (key for key in store._objects if key.startswith(".quilt/packs/data/"))
    data = store.get(name)
    store.damage(name, data[:72] + b"\xff" + data[73:])
    assert [problem.endswith("is damaged") for problem in check_packs(store, index)] == [True]
    pack_version(store, index, lambda entry: store.get(entry.physical_key.key), check=True)
    assert check_packs(store, index) == []
    store.lose(name)
    assert [problem.endswith("is missing") for problem in check_packs(store, index)] == [True]
    store.damage(pack_table_key(index.top_hash), b"[]")
    assert ["table of packs is damaged" in problem for problem in check_packs(store, index)] == [True]
