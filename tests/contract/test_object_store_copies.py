"""What every ObjectStore does with versions and with copies within its server, whatever is behind it."""

from __future__ import annotations

from threading import Barrier
from typing import TYPE_CHECKING

import pytest

from fusepkg.errors import CopyUnsupported, FileChanged, ObjectExists, ObjectMissing
from fusepkg.model.physical_key import PhysicalKey, parse_physical_key
from tests.contract.stores import ODD_KEYS, in_threads

if TYPE_CHECKING:
    from fusepkg.store.protocol import ObjectInfo, ObjectStore
    from tests.contract.stores import Subject


def test_list_with_versions(subject: Subject) -> None:
    store = subject.store
    store.overwrite("a/1", b"old")
    written = [store.overwrite(name, name.encode()) for name in ("a/1", "a/2", "a/\x01", "b", "a-")]
    expected = {info.key: info.version for info in written}
    found = list(store.list_versions("a/"))
    assert [info.key for info in found] == ["a/\x01", "a/1", "a/2"]
    assert all(info.version == expected[info.key] for info in found)
    assert [info.size for info in found] == [3, 3, 3]
    assert [info.key for info in store.list_versions("a/\x01")] == ["a/\x01"]
    assert [info.key for info in store.list_versions("")] == ["a-", "a/\x01", "a/1", "a/2", "b"]
    assert all(store.stays(info) for info in store.list_versions("a/2"))


def test_versions_of_more_than_a_page(store: ObjectStore, small_pages: int) -> None:
    names = [f"page/{number:04}" for number in range(small_pages + 10)]
    in_threads(8, lambda name: [store.overwrite(name, b""), store.overwrite(name, b"x")], names)
    found = list(store.list_versions("page/"))
    assert [(info.key, info.size) for info in found] == [(name, 1) for name in names]


# --- copies --------------------------------------------------------------------------------------------------


def key_of(store: ObjectStore, info: ObjectInfo) -> PhysicalKey:
    return parse_physical_key(store.url(info.key, info.version))


def test_copy_takes_the_bytes_and_new_metadata(store: ObjectStore) -> None:
    source = store.create("from/a", b"hello", metadata={"who": "one"})
    info = store.copy(key_of(store, source), "to/b", size=5, metadata={"who": "two \u65e5"})
    assert info == store.head("to/b")
    assert store.get("to/b", version=info.version) == b"hello"
    assert info.metadata == {"who": "two \u65e5"}
    assert store.head("from/a") == source
    bare = store.copy(key_of(store, source), "to/c", size=5)
    assert store.head("to/c") == bare
    assert bare.metadata == {}
    empty = store.create("from/empty", b"")
    store.copy(key_of(store, empty), "to/empty", size=0)
    assert store.get("to/empty") == b""


def test_copy_keeps_what_is_there(store: ObjectStore) -> None:
    source = key_of(store, store.create("source", b"new"))
    there = store.create("there", b"first")
    for _ in range(2):
        with pytest.raises(ObjectExists, match="there"):
            store.copy(source, "there", size=3)
    with pytest.raises(ObjectExists):
        store.copy(source, "source", size=3)
    assert store.get("there") == b"first"
    assert store.head("there") == there


def test_one_of_many_copiers_wins(store: ObjectStore) -> None:
    racers = 6
    sources = [key_of(store, store.create(f"source/{number}", b"%d" % number)) for number in range(racers)]
    barrier = Barrier(racers)

    def race(key: str, number: int) -> tuple[int, ObjectInfo] | None:
        barrier.wait()
        try:
            return number, store.copy(sources[number], key, size=1)
        except ObjectExists:
            return None

    for key in ("race/1", "race/2", "race/3"):
        won = [result for result in in_threads(racers, race, [key] * racers, range(racers)) if result is not None]
        assert len(won) == 1
        number, info = won[0]
        assert store.get(key) == store.get(key, version=info.version) == b"%d" % number
        assert store.stays(store.head(key))


def test_copy_of_what_is_not_there_leaves_the_key_free(store: ObjectStore) -> None:
    store.create("a", b"x")
    for missing in ("b", "a/b"):
        with pytest.raises(ObjectMissing, match=missing[-1]):
            store.copy(parse_physical_key(store.url(missing)), "to", size=1)
    store.create("to", b"free")


def test_copy_of_an_object_that_changed_leaves_the_key_free(subject: Subject) -> None:
    store = subject.store
    store.create("a", b"longer than it was")
    with pytest.raises(FileChanged, match="a has 18 bytes instead of 3"):
        store.copy(parse_physical_key(store.url("a")), "to", size=3)
    store.create("to", b"free")


def test_copy_of_an_object_that_was_replaced_since_it_was_looked_at(store: ObjectStore) -> None:
    source = parse_physical_key(store.url("a"))
    store.create("a", b"first")
    seen = store.head("a").etag
    assert seen
    assert store.head("a").etag == seen
    store.copy(source, "copy", size=5, etag=seen)
    store.overwrite("a", b"other")
    with pytest.raises(FileChanged, match="a changed"):
        store.copy(source, "to", size=5, etag=seen)
    store.create("to", b"free")
    assert store.get("copy") == b"first"


def test_copy_of_one_version(subject: Subject) -> None:
    if not subject.versioned:
        return
    store = subject.store
    first = store.overwrite("a", b"first")
    store.overwrite("a", b"second")
    store.copy(key_of(store, first), "b", size=5)
    assert store.get("b") == b"first"


def test_copy_between_odd_keys(store: ObjectStore) -> None:
    for number, key in enumerate(ODD_KEYS):
        store.create(key, b"%d" % number)
    for number, key in enumerate(ODD_KEYS):
        store.copy(parse_physical_key(store.url(key)), f"{key}~copy", size=len(b"%d" % number))
        assert store.get(f"{key}~copy") == b"%d" % number, key


def test_copy_from_another_kind_of_store(subject: Subject) -> None:
    other = "s3://bucket-elsewhere/a" if subject.kind == "directory" else "file:///etc/hostname"
    with pytest.raises(CopyUnsupported, match=other):
        subject.store.copy(parse_physical_key(other), "a", size=1)
    subject.store.create("a", b"free")
