from __future__ import annotations

from pathlib import Path

import pytest
from fusepkg_cache.digest import Algorithm, compute_digest

from fusepkg.errors import IndexDamaged
from fusepkg.index.build import build_index
from fusepkg.index.entries import RECORD_BYTES, EntryTable
from fusepkg.index.files import ENTRIES as FILE
from fusepkg.model.entry import Entry
from fusepkg.model.manifest import read_manifest, write_directory
from fusepkg.model.record import EntryRecord
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


def path_of(entries: list[Entry], root: Path, manifest: bytes | None = None) -> Path:
    pieces = [manifest or manifest_of(entries)]
    return root / "v1" / build_index(pieces, root, expected_top_hash=None, allow_file_keys=False) / FILE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return path_of(ENTRIES, tmp_path)


def test_entries_are_kept_whole(path: Path) -> None:
    table = EntryTable(path)
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
    assert list(EntryTable(path_of(in_order(entries), tmp_path))) == in_order(entries)


def test_a_block_belongs_to_the_entry_whose_bytes_lie_there(path: Path) -> None:
    table = EntryTable(path)
    owners = {0: 1, 1: 5, 2: 5, 3: 6, 4: 7, STARTS[-1] - 1: 7}
    assert {block: table.find(block) for block in owners} == owners
    assert table.data_blocks == STARTS[-1]
    for outside in (-1, STARTS[-1], STARTS[-1] + 1, 2**64):
        assert table.find(outside) is None


def test_an_empty_table_has_nothing(tmp_path: Path) -> None:
    table = EntryTable(path_of([], tmp_path))
    assert list(table) == []
    assert table.find(0) is None


def test_numbers_outside_are_index_errors(path: Path) -> None:
    table = EntryTable(path)
    for number in (-1, len(ENTRIES)):
        with pytest.raises(IndexError):
            table.entry(number)
        with pytest.raises(IndexError):
            table.start_block(number)


def test_directory_metadata_is_kept(tmp_path: Path) -> None:
    head, _, rest = manifest_of(ENTRIES).partition(b"\n")
    manifest = head + b"\n" + write_directory("é/", {"é": 1}) + rest
    table = EntryTable(path_of([], tmp_path, manifest))
    assert table.directory_meta() == {"é/": {"é": 1}}
    assert table.top_hash == top_hash_of(ENTRIES)


def test_every_changed_byte_is_noticed(path: Path) -> None:
    good = path.read_bytes()
    places = [*range(0, 150, 5), *range(4096, len(good), 7)]  # the rest of the first block is padding
    unnoticed = []
    for at in places:
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        try:
            table = EntryTable(path)
            table.check()
        except IndexDamaged:
            continue
        assert list(table) == ENTRIES
        unnoticed.append(at)
    assert len(unnoticed) <= 64 // 7 + 1, "only the padding before the records may change"


def test_a_damaged_entry_does_not_hide_the_others(path: Path) -> None:
    data = bytearray(path.read_bytes())
    at = data.index("é/f".encode())
    data[at] ^= 1
    path.write_bytes(data)
    table = EntryTable(path)
    assert table.entry(5) == ENTRIES[5]
    with pytest.raises(IndexDamaged, match="entry 6"):
        table.entry(6)
    assert (path.parent / "damaged").exists()


def test_a_record_in_the_place_of_another_is_noticed(path: Path) -> None:
    records = read_manifest([manifest_of(ENTRIES)], allow_file_keys=False).records
    heap_bytes = sum(
        len(record.key + record.url + record.meta) for record in records if isinstance(record, EntryRecord)
    )
    at = -(-(4096 + heap_bytes) // 64) * 64
    data = bytearray(path.read_bytes())
    first, second = data[at : at + RECORD_BYTES], data[at + RECORD_BYTES : at + 2 * RECORD_BYTES]
    data[at : at + 2 * RECORD_BYTES] = second + first
    path.write_bytes(data)
    with pytest.raises(IndexDamaged, match="entry 0"):
        EntryTable(path).entry(0)


@pytest.mark.parametrize("keep", [0, 100, 4096, -1])
def test_a_file_cut_off_is_damaged(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(IndexDamaged):
        EntryTable(path)
