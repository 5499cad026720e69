from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fusepkg_cache.digest import Algorithm, compute_digest
from hypothesis import given
from hypothesis import strategies as st

from fusepkg.index.build import build_index
from fusepkg.index.difference import MetaChange, compare_entries, compare_indexes, compare_metadata
from fusepkg.index.opening import Index, open_index
from fusepkg.model.entry import Entry
from fusepkg.model.manifest import write_directory
from fusepkg.model.physical_key import PhysicalKey
from tests.manifests import HEADER, executable_entry, file_entry, in_order, manifest_of

MIB = 1 << 20


def opened(
    root: Path,
    entries: list[Entry],
    header: dict[str, Any] = HEADER,
    directories: dict[str, dict[str, Any]] | None = None,
) -> Index:
    head, _, rest = manifest_of(in_order(entries), header).partition(b"\n")
    lines = b"".join(write_directory(key, meta) for key, meta in (directories or {}).items())
    top_hash = build_index([head + b"\n" + lines + rest], root, expected_top_hash=None, allow_file_keys=False)
    index = open_index(root, top_hash)
    assert index is not None
    return index


def test_every_kind_of_change_in_tree_order(tmp_path: Path):
    same = file_entry("b/same", b"same")
    old = [file_entry("a", b"old"), same, file_entry("b/gone"), file_entry("c"), file_entry("run", b"x")]
    new = [file_entry("a", b"new"), same, file_entry("b!"), file_entry("c", meta={"k": 1}), executable_entry("run")]
    changes = list(compare_indexes(opened(tmp_path / "old", old), opened(tmp_path / "new", new)))
    assert [(change.kind, change.logical_key, change.is_meta_only) for change in changes] == [
        ("modified", "a", False),
        ("removed", "b/gone", False),
        ("added", "b!", False),
        ("modified", "c", True),
        ("modified", "run", False),
    ]
    assert (changes[0].old, changes[0].new) == (old[0], new[0])
    assert (changes[1].old, changes[1].new) == (old[2], None)
    assert (changes[2].old, changes[2].new) == (None, new[2])


def test_where_the_bytes_lie_makes_no_difference():
    entry = file_entry("a", b"x")
    moved = replace(entry, physical_key=PhysicalKey("s3", "elsewhere", "k"))
    assert list(compare_entries([entry], [moved])) == []


@pytest.mark.parametrize(("size", "told"), [(0, True), (1, True), (8 * MIB, True), (8 * MIB + 1, False)])
def test_the_same_bytes_under_another_kind_of_hash_where_it_can_be_told(size: int, told: bool):
    data = bytes(size)
    one = replace(file_entry("a", data), digest=compute_digest(Algorithm.SHA2_256, data))
    assert (list(compare_entries([one], [file_entry("a", data)])) == []) is told


@pytest.mark.parametrize(
    ("one", "other"), [({"k": 1}, {"k": True}), ({"k": 1}, {"k": 1.0}), ({"k": [0]}, {"k": [False]})]
)
def test_metadata_differ_where_json_differs(one: dict[str, Any], other: dict[str, Any]):
    (change,) = compare_entries([file_entry("a", meta=one)], [file_entry("a", meta=other)])
    assert change.is_meta_only


def test_metadata_of_package_and_directories(tmp_path: Path):
    old = opened(tmp_path, [file_entry("x")], {"version": "v0", "message": "a"}, {"a/": {"n": 1}, "b/": {"n": 1}})
    new = opened(
        tmp_path, [file_entry("x", b"1")], {"version": "v0", "user_meta": {"s": 1}}, {"b/": {"n": 2}, "c/": {}}
    )
    assert list(compare_metadata(old, new)) == [
        MetaChange("modified", ""),
        MetaChange("removed", "a/"),
        MetaChange("modified", "b/"),
        MetaChange("added", "c/"),
    ]


def test_a_message_is_no_difference(tmp_path: Path):
    old = opened(tmp_path, [file_entry("x")], {"version": "v0", "message": "a", "user_meta": None})
    new = opened(tmp_path, [file_entry("x")], {"version": "v0", "message": "b"})
    assert list(compare_metadata(old, new)) == []


keys = st.lists(st.sampled_from(["a", "b", "a!", "é", "\U0001f600", "\ufb00"]), min_size=1, max_size=3).map("/".join)
contents = st.dictionaries(keys, st.tuples(st.binary(max_size=2), st.sampled_from([{}, {"k": 1}, {"k": 1.0}])))


@given(contents, contents)
def test_it_is_the_difference_of_two_dictionaries(old: dict[str, Any], new: dict[str, Any]):
    def entries(content: dict[str, Any]) -> list[Entry]:
        return in_order(file_entry(key, data, meta=meta) for key, (data, meta) in content.items())

    changes = list(compare_entries(entries(old), entries(new)))
    found = {change.logical_key: change.kind for change in changes}
    expected = dict.fromkeys(old.keys() - new.keys(), "removed") | dict.fromkeys(new.keys() - old.keys(), "added")
    expected |= {key: "modified" for key in old.keys() & new.keys() if repr(old[key]) != repr(new[key])}
    assert found == expected
    assert [change.logical_key for change in changes] == [
        entry.logical_key for entry in in_order(file_entry(key) for key in found)
    ]
