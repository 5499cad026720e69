from __future__ import annotations

from pathlib import Path

import pytest
from fusepkg_cache.digest import Algorithm, compute_digest

from fusepkg.index.build import build_index
from fusepkg.index.entries import EntryTable
from fusepkg.index.files import open_files
from fusepkg.model.entry import Entry
from fusepkg.model.manifest import write_directory
from tests.manifests import (
    HEADER,
    empty_directory_entry,
    executable_entry,
    file_entry,
    in_order,
    manifest_of,
    symlink_entry,
    top_hash_of,
)

ENTRIES = in_order(
    [
        file_entry("a"),
        file_entry("b", bytes(4096)),
        file_entry("c"),
        symlink_entry("d", "b"),
        empty_directory_entry("dd"),
        executable_entry("e", bytes(4097)),
        file_entry("é/f", b"1", meta={"user_meta": {"é": [1.0, None]}}),
        file_entry("é/g", size=10**9),
        file_entry("é/h"),
    ]
)
STARTS = [0, 0, 1, 1, 1, 1, 3, 4, 4 + -(-(10**9) // 4096)]


def table_of(entries: list[Entry], root: Path, manifest: bytes | None = None) -> EntryTable:
    pieces = [manifest or manifest_of(entries)]
    top_hash = build_index(pieces, root, expected_top_hash=None, allow_file_keys=False, allow_md5=True)
    return EntryTable(open_files(root, top_hash).entries)


@pytest.fixture
def table(tmp_path: Path) -> EntryTable:
    return table_of(ENTRIES, tmp_path)


def test_entries_are_kept_whole(table: EntryTable) -> None:
    assert list(table) == ENTRIES
    assert [table.logical_key(number) for number in range(len(table))] == [entry.logical_key for entry in ENTRIES]
    assert [(content.size, content.digest, content.physical_key) for content in table.contents()] == [
        (entry.size, entry.digest, entry.physical_key) for entry in ENTRIES
    ]
    assert len(table) == len(ENTRIES)
    assert table.top_hash == top_hash_of(ENTRIES)
    assert table.package_header() == HEADER
    assert table.total_bytes == sum(entry.size for entry in ENTRIES)
    assert [table.start_block(number) for number in range(len(table))] == STARTS


def test_entries_keep_their_kind_of_hash(tmp_path: Path) -> None:
    entries = [
        Entry(algorithm.value, file_entry("k").physical_key, 1, compute_digest(algorithm, b"1"))
        for algorithm in Algorithm
    ]
    assert list(table_of(in_order(entries), tmp_path)) == in_order(entries)


def test_a_block_belongs_to_the_entry_whose_bytes_lie_there(table: EntryTable) -> None:
    owners = {0: 1, 1: 5, 2: 5, 3: 6, 4: 7, STARTS[-1] - 1: 7}
    assert {block: table.find(block) for block in owners} == owners
    assert table.data_blocks == STARTS[-1]
    for outside in (-1, STARTS[-1], STARTS[-1] + 1, 2**64):
        assert table.find(outside) is None


def test_an_empty_table_has_nothing(tmp_path: Path) -> None:
    table = table_of([], tmp_path)
    assert list(table) == []
    assert table.find(0) is None


def test_numbers_outside_are_index_errors(table: EntryTable) -> None:
    for number in (-1, len(ENTRIES)):
        with pytest.raises(IndexError):
            table.entry(number)
        with pytest.raises(IndexError):
            table.start_block(number)


def test_directory_metadata_is_kept(tmp_path: Path) -> None:
    head, _, rest = manifest_of(ENTRIES).partition(b"\n")
    manifest = head + b"\n" + write_directory("é/", {"é": 1}) + rest
    table = table_of([], tmp_path, manifest)
    assert table.directory_meta() == {"é/": {"é": 1}}
    assert table.top_hash == top_hash_of(ENTRIES)


def test_many_entries_are_found_by_number_and_by_block(tmp_path: Path) -> None:
    """More than one block of records and of start blocks, with empty files among them."""
    entries = in_order(file_entry(f"{number:05d}", b"x" * (number % 3 * 3000)) for number in range(3000))
    table = table_of(entries, tmp_path)
    assert list(table) == entries
    for number in range(0, 3000, 7):
        assert table.entry(number) == entries[number]
        if entries[number].size:
            assert table.find(table.start_block(number)) == number
    assert table.find(table.data_blocks - 1) == 2999
