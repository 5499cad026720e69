"""The lines that sum up a version that is there already."""

from __future__ import annotations

import pytest
from fusepkg_cache.digest import combine_chunks

from fusepkg.model.entry import Entry
from fusepkg.model.physical_key import PhysicalKey
from fusepkg.publish.draft.entry_sources import StoredEntries
from fusepkg.publish.draft.items import Grouping, Item, folders_first, in_order

ORIGIN = StoredEntries([])


def lines(places: dict[str, str]) -> list[str]:
    grouping = Grouping()
    for key, place in places.items():
        grouping.add(Entry(key, PhysicalKey("s3", "b", place), 0, combine_chunks([])))
    found: list[Item] = []
    for _, item in grouping.items(ORIGIN):
        item.count += 1
        if item not in found:
            found.append(item)
    return [f"{item.logical} -> {item.source}" for item in in_order(found)]


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ({"README.md": "p/README.md", "t/1": "p/t/1", "t/d/2": "p/t/d/2"},
         ["README.md -> s3://b/p/README.md", "t/ -> s3://b/p/t/"]),
        ({"t/1": "p/t/1~0123456789abcdef", "t/2": "p/t/2"}, ["t/ -> s3://b/p/t/"]),
        ({"t/1": "other/1", "t/2": "p/t/2", "t/3": "p/t/3"}, ["t/1 -> s3://b/other/1", "t/ -> s3://b/p/t/"]),
        ({"t/1": "only/1"}, ["t/ -> s3://b/only/"]),
        ({"t/1": "a/1", "t/2": "a/2", "t/3": "z/3", "t/4": "z/4"}, ["t/ -> s3://b/a/", "t/ -> s3://b/z/"]),
        ({"t/1": "p/other-name", "t/2": "p/t/2"}, ["t/1 -> s3://b/p/other-name", "t/2 -> s3://b/p/t/2"]),
        ({"t/a/1": "x/1", "t/a/2": "x/2"}, ["t/a/ -> s3://b/x/"]),
        ({f"{n:02}": f"p/{n:02}" for n in range(21)}, [" -> s3://b/p/"]),
        ({f"{n:02}": f"p/{n:02}" for n in range(2)}, ["00 -> s3://b/p/00", "01 -> s3://b/p/01"]),
    ],
)  # fmt: skip
def test_the_lines_of_a_package(places: dict[str, str], expected: list[str]) -> None:
    assert sorted(lines(places)) == sorted(expected)


def test_what_lies_below_a_folder_follows_it_and_folders_go_first() -> None:
    said = [("a.txt", "./a.txt"), ("t/d/x", "./x"), ("z/", "./z/"), ("t/", "./t/"), ("t/d/", "./d/")]
    items = [Item(logical, source, ORIGIN, count=1) for logical, source in said]
    ordered = in_order(items)
    assert [item.logical for item in ordered] == ["a.txt", "z/", "t/", "t/d/", "t/d/x"]
    assert [item.logical for item in folders_first(ordered)] == ["z/", "t/", "t/d/", "t/d/x", "a.txt"]


def test_what_a_folder_says_already_is_not_said_again() -> None:
    said = [("t/1", "./t/1"), ("t/", "./t/"), ("t/", "./t/"), ("t/d/", "./t/d/"), ("t/2", "./2")]
    items = [Item(logical, source, ORIGIN, count=1) for logical, source in said]
    assert [f"{item.logical} -> {item.source}" for item in in_order(items)] == ["t/ -> ./t/", "t/2 -> ./2"]
