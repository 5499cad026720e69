from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fusepkg.errors import InvalidReference, TagConflict, UnsupportedFormat
from fusepkg.model.entry import Entry
from fusepkg.registry.layout import Layout
from fusepkg.registry.quilt3 import list_names, list_pointers, pointer_time, put_quilt3_package, read_pointer
from fusepkg.store.faulty import FaultyStore
from fusepkg.store.protocol import ObjectStore
from tests.manifests import file_entry, manifest_of, top_hash_of

A, B = "aa" * 32, "bb" * 32
POINTERS = ".quilt/named_packages/ns/name/"
ENTRIES = [file_entry("a", b"1")]
TOP_HASH = top_hash_of(ENTRIES)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "manifest"
    path.write_bytes(manifest_of(ENTRIES))
    return path


def pointers_in(store: ObjectStore) -> dict[str, str]:
    return {info.key.removeprefix(POINTERS): store.get(info.key).decode() for info in store.list(POINTERS)}


@pytest.mark.parametrize("content", [A, f"{A}\n", f" {A}\r\n"])
def test_a_pointer_names_a_hash_with_or_without_blanks(store: ObjectStore, content: str) -> None:
    store.create(f"{POINTERS}latest", content.encode())
    assert read_pointer(store, "ns/name", "latest") == A
    assert read_pointer(store, "ns/name", "other") is None
    assert read_pointer(store, "ns/name", "latest", Layout.QUILT3_V2) is None


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 64, A[:-1].encode(), A.upper().encode(), A.encode() * 2, b"x" * 10**6]
)
def test_what_is_no_pointer_is_named(store: ObjectStore, content: bytes) -> None:
    store.create(f"{POINTERS}latest", content)
    with pytest.raises(UnsupportedFormat, match="named_packages/ns/name/latest"):
        read_pointer(store, "ns/name", "latest")


def test_names_are_listed_by_namespace_not_by_version(store: ObjectStore) -> None:
    for number in range(30):
        store.create(f"{POINTERS}{1_700_000_000 + number}", A.encode())
    for name in ("ns/other", "é/日", "b/a"):
        store.create(f".quilt/named_packages/{name}/latest", A.encode())
        store.create(f".quilt/v2/tags/{name.replace('/', '@')}/latest", A.encode())
    store.create(".quilt/named_packages/stray", b"")
    store.create(".quilt/named_packages/a b/c/latest", A.encode())
    asked = FaultyStore(store)
    assert list_names(asked, Layout.QUILT3) == ["b/a", "ns/name", "ns/other", "é/日"]
    assert list_names(asked, Layout.QUILT3_V2) == ["b/a", "ns/other", "é/日"]
    assert list_names(asked, Layout.QUILT3, at_most=3) == ["b/a", "ns/name", "ns/other"]
    assert {call for call, _ in asked.calls} == {"list_directories"}


def test_pointers_of_pushes_are_told_from_tags(store: ObjectStore) -> None:
    for pointer in ("1700000000", "latest", "20240101", "mytag", "1700000000/x"):
        store.create(f"{POINTERS}{pointer}", A.encode())
    pointers = list_pointers(store, "ns/name")
    assert pointers == ["1700000000", "20240101", "latest", "mytag"]
    assert [pointer for pointer in pointers if pointer_time(pointer)] == ["1700000000"]
    assert pointer_time("1700000000") == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


# --- writing -------------------------------------------------------------------------------------------------


def test_a_version_is_put_as_quilt3_does(store: ObjectStore, manifest: Path) -> None:
    recorded = FaultyStore(store)
    assert put_quilt3_package(recorded, "ns/name", TOP_HASH, manifest, None, now=1700000000.9) == "1700000000"
    written = [key for call, key in recorded.calls if call in ("create", "overwrite")]
    assert written == [f".quilt/packages/{TOP_HASH}", f"{POINTERS}1700000000", f"{POINTERS}latest"]
    assert store.get(f".quilt/packages/{TOP_HASH}") == manifest.read_bytes()
    assert pointers_in(store) == {"1700000000": TOP_HASH, "latest": TOP_HASH}


def test_a_version_that_latest_names_is_not_put_again(store: ObjectStore, manifest: Path) -> None:
    put_quilt3_package(store, "ns/name", TOP_HASH, manifest, None, now=1700000000)
    for expected in (TOP_HASH, None, A):
        assert put_quilt3_package(store, "ns/name", TOP_HASH, manifest, expected, now=1700000005) is None
    assert sorted(pointers_in(store)) == ["1700000000", "latest"]


def test_no_pointer_of_another_push_is_overwritten(store: ObjectStore, manifest: Path) -> None:
    for second, top_hash in ((1700000000, A), (1700000001, B)):
        store.create(f"{POINTERS}{second}", top_hash.encode())
    store.create(f"{POINTERS}latest", B.encode())
    assert put_quilt3_package(store, "ns/name", TOP_HASH, manifest, B, now=1700000000) == "1700000002"
    expected = {"1700000000": A, "1700000001": B, "1700000002": TOP_HASH, "latest": TOP_HASH}
    assert pointers_in(store) == expected


@pytest.mark.parametrize("expected", [None, A])
def test_a_latest_that_moved_meanwhile_stays(store: ObjectStore, manifest: Path, expected: str | None) -> None:
    store.create(f"{POINTERS}latest", B.encode())
    with pytest.raises(TagConflict) as caught:
        put_quilt3_package(store, "ns/name", TOP_HASH, manifest, expected)
    assert B in caught.value.message
    assert TOP_HASH in caught.value.message
    assert pointers_in(store) == {"latest": B}
    assert store.head(f".quilt/packages/{TOP_HASH}").size > 0


def test_racing_pushes_lose_nothing(store: ObjectStore, tmp_path: Path) -> None:
    packages = [[file_entry("a", b"%d" % number)] for number in range(6)]
    barrier = threading.Barrier(len(packages), timeout=60)
    store.create(f"{POINTERS}latest", A.encode())

    def push(entries: list[Entry]) -> str | TagConflict | None:
        top_hash = top_hash_of(entries)
        path = tmp_path / top_hash
        path.write_bytes(manifest_of(entries))
        barrier.wait()
        try:
            return put_quilt3_package(store, "ns/name", top_hash, path, A, now=1700000000)
        except TagConflict as conflict:
            return conflict

    with ThreadPoolExecutor(len(packages)) as threads:
        results = list(threads.map(push, packages))
    pointers = pointers_in(store)
    published = set()
    for entries, result in zip(packages, results, strict=True):
        top_hash = top_hash_of(entries)
        assert store.head(f".quilt/packages/{top_hash}").size > 0
        if isinstance(result, str):
            assert pointers[result] == top_hash
            published.add(top_hash)
        else:
            assert isinstance(result, TagConflict)
            assert top_hash in result.message
    assert pointers["latest"] in published


def test_what_is_no_manifest_is_not_taken_for_one(store: ObjectStore, manifest: Path) -> None:
    store.create(f".quilt/packages/{TOP_HASH}", b"spoiled")
    put_quilt3_package(store, "ns/name", TOP_HASH, manifest, None)
    assert store.get(f".quilt/packages/{TOP_HASH}") == manifest.read_bytes()
    assert pointers_in(store)["latest"] == TOP_HASH


@pytest.mark.parametrize("name", ["name", "a.b/c", "a/b/c", "ns/name\n"])
def test_names_quilt3_would_not_find_are_refused(store: ObjectStore, manifest: Path, name: str) -> None:
    with pytest.raises(InvalidReference, match="quilt3"):
        put_quilt3_package(store, name, TOP_HASH, manifest, None)
    assert list(store.list("")) == []
