"""What a prefix of a bucket holds, objects included that stand for directories."""

from __future__ import annotations

import pytest

from fusepkg.errors import FolderUnfit
from fusepkg.model.entry import EMPTY_DIRECTORY_NAME, EntryKind, kind_of
from fusepkg.publish.draft.sources import FoundSource, find_source
from fusepkg.store.memory import MemoryStore
from tests.unit.publish.stores import GivenStores


def find(objects: dict[str, bytes]) -> FoundSource:
    store = MemoryStore("b")
    for key, content in objects.items():
        store.create(key, content)
    return find_source("s3://b/in/", GivenStores(store))


def directories(source: FoundSource) -> list[str]:
    kinds = [kind_of(source.entries.get(number).meta) for number in range(len(source.keys))]
    return [key for key, kind in zip(source.keys, kinds, strict=True) if kind is EntryKind.EMPTY_DIRECTORY]


def test_a_slash_object_without_bytes_is_an_empty_directory_if_nothing_lies_below_it() -> None:
    found = find(
        {"in/": b"", "in/full/": b"", "in/full/a": b"1", "in/empty/": b"", "in/outer/inner/": b"", "in/z/": b""}
    )
    marks = [f"{path}/{EMPTY_DIRECTORY_NAME}" for path in ("empty", "outer/inner", "z")]
    assert sorted(found.keys) == sorted(["full/a", *marks])
    assert directories(found) == marks
    assert found.entries.get(found.keys.index(marks[0])).place.key == "in/empty/"


def test_a_directory_of_directories_is_said_once() -> None:
    assert find({"in/a/": b"", "in/a/b/": b"", "in/c": b"1"}).keys == [f"a/b/{EMPTY_DIRECTORY_NAME}", "c"]


def test_what_a_push_made_of_an_empty_directory_is_one_again() -> None:
    found = find({f"in/empty/{EMPTY_DIRECTORY_NAME}": b"", "in/a": b"1"})
    assert directories(found) == [f"empty/{EMPTY_DIRECTORY_NAME}"]


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        ({"in/a/": b"bytes", "in/a/b": b"1"}, r"'in/a/' ends with a slash, and holds 5 bytes"),
        ({"in/": b"12", "in/b": b"1"}, r"'in/' ends with a slash, and holds 2 bytes"),
        ({f"in/{EMPTY_DIRECTORY_NAME}": b"x"}, "has the name that marks empty directories"),
        ({"in/a//": b""}, "part ''"),
        ({"in/../": b"", "in/x": b"1"}, r"'\.\.'"),
    ],
)
def test_what_no_file_can_show_is_named(objects: dict[str, bytes], words: str) -> None:
    with pytest.raises(FolderUnfit, match=words):
        find(objects)


def test_all_of_them_are_named_at_once() -> None:
    with pytest.raises(FolderUnfit, match=r"'in/a/'.*'in/b/'"):
        find({"in/a/": b"1", "in/b/": b"2", "in/c": b"3"})
