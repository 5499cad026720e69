"""Packs that a push writes beside the objects: all small files are in them, unchanged packs are shared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fusepkg.errors import AccessDenied, ObjectMissing
from fusepkg.index.build import build_index
from fusepkg.index.opening import Index, open_index
from fusepkg.packs.pack import holds, pack_of
from fusepkg.packs.table import FEWEST_SMALL_ENTRIES, PackedSpan, read_table
from fusepkg.publish.packs import pack_version
from fusepkg.registry.layout import manifest_key, pack_key, pack_table_key
from fusepkg.registry.packs import get_pack_table
from fusepkg.store.directory import DirectoryStore
from fusepkg.store.faulty import FaultyStore
from fusepkg.store.memory import MemoryStore
from fusepkg.store.protocol import ObjectStore
from tests.unit.publish.pushes import content, fill, push, records

MANY = {f"d{number // 100}/{number:04}.txt": b"%d " % number * 40 for number in range(FEWEST_SMALL_ENTRIES * 2)}


@pytest.fixture(autouse=True)
def _small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packs of some 30 blobs instead of 1,600."""
    monkeypatch.setattr("fusepkg.packs.pack.LEAST_BYTES", 16 * 1024)
    monkeypatch.setattr("fusepkg.packs.pack.MEAN_FURTHER_BYTES", 16 * 1024)


@pytest.fixture
def bucket() -> MemoryStore:
    return MemoryStore("bucket")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fill(tmp_path / "folder", MANY | {"large": bytes(300_000), "d1/empty": b""})
    return tmp_path / "folder"


def index_of(store: ObjectStore, top_hash: str, root: Path) -> Index:
    manifest = root / "manifest"
    manifest.write_bytes(store.get(manifest_key("ns/data", top_hash)))
    build_index(manifest, root, expected_top_hash=top_hash, allow_file_keys=True)
    index = open_index(root, top_hash)
    assert index is not None
    return index


def table_of(store: ObjectStore, index: Index) -> list[PackedSpan]:
    return read_table(get_pack_table(store, index.top_hash), index.top_hash, len(index.entries))


def packs_in(store: ObjectStore) -> set[str]:
    return {info.key for info in store.list(".quilt/packs/data/")}


def read_of(store: ObjectStore, index: Index) -> Callable[[object], bytes]:
    found = records(store, index.top_hash)
    return lambda entry: content(store, found[entry.logical_key])  # type: ignore[attr-defined]


def test_every_small_file_lies_in_a_pack_where_the_manifest_says(
    bucket: MemoryStore, folder: Path, tmp_path: Path
) -> None:
    pushed = push(bucket, folder)
    index = index_of(bucket, pushed.top_hash, tmp_path)
    contents = list(index.entries.contents())
    found: set[bytes] = set()
    for packed in table_of(bucket, index):
        pack = pack_of(contents[packed.span.first : packed.span.first + packed.span.entries])
        data = bucket.get(pack_key(packed.pack))
        assert pack.name == packed.pack
        assert holds(pack, data)
        found |= {data[member.offset : member.end] for member in pack.members}
    assert found == set(MANY.values())
    assert len(packs_in(bucket)) == pushed.packs.packs == pushed.packs.new_packs > 5


def test_the_ordinary_objects_stay_as_they_are(bucket: MemoryStore, folder: Path) -> None:
    without = MemoryStore("bucket")
    assert push(bucket, folder).top_hash == push(without, folder, packs=False).top_hash
    beside = {info.key for info in bucket.list("")} - {info.key for info in without.list("")}
    assert beside == {info.key for info in bucket.list(".quilt/packs/")}


def test_a_new_version_shares_the_packs_that_did_not_change(bucket: MemoryStore, folder: Path, tmp_path: Path) -> None:
    first = push(bucket, folder)
    (folder / "d2/0250.txt").write_bytes(b"changed")
    second = push(bucket, folder)
    assert second.packs.packs >= first.packs.packs - 1
    assert 1 <= second.packs.new_packs <= 3
    assert table_of(bucket, index_of(bucket, second.top_hash, tmp_path))


def test_an_unchanged_folder_writes_no_pack_again_and_mends_what_is_gone(bucket: MemoryStore, folder: Path) -> None:
    store = FaultyStore(bucket)
    pushed = push(store, folder)
    store.calls.clear()
    assert push(store, folder).packs.new_packs == 0
    assert not [key for call, key in store.calls if call in ("create", "overwrite")]
    bucket.overwrite(min(packs_in(bucket)), b"truncated")
    assert push(store, folder).packs.new_packs == 1
    bucket.overwrite(pack_table_key(pushed.top_hash), b"{}")
    push(store, folder)
    assert read_table(get_pack_table(bucket, pushed.top_hash), pushed.top_hash, len(MANY) + 2)


@pytest.mark.parametrize("files", [FEWEST_SMALL_ENTRIES - 1, 3])
def test_few_small_files_are_not_packed(bucket: MemoryStore, tmp_path: Path, files: int) -> None:
    fill(tmp_path / "few", dict(list(MANY.items())[:files]) | {"large": bytes(300_000)})
    push(bucket, tmp_path / "few")
    assert not list(bucket.list(".quilt/packs/"))


def test_none_are_written_where_they_are_not_wanted(bucket: MemoryStore, folder: Path, tmp_path: Path) -> None:
    """With packs=False; and in a directory, whose files are read where they lie, unless they are asked for."""
    push(bucket, folder, packs=False)
    assert not list(bucket.list(".quilt/packs/"))
    (tmp_path / "registry").mkdir()
    directory = DirectoryStore(tmp_path / "registry")
    push(directory, folder)
    assert not list(directory.list(".quilt/packs/"))
    assert push(directory, folder, packs=True).packs.new_packs


def test_a_bucket_that_refuses_packs_takes_the_version(bucket: MemoryStore, folder: Path) -> None:
    pushed = push(_Denying(bucket), folder)
    assert "No packs were written" in pushed.warnings[0]
    assert "fusepkg pack" in pushed.warnings[0]
    assert pushed.tag_moved


class _Denying(FaultyStore):
    """Takes no packs."""

    def create(self, key, source, *, metadata=None):  # type: ignore[no-untyped-def]
        if key.startswith(".quilt/packs/"):
            raise AccessDenied("not below .quilt/packs")
        return super().create(key, source, metadata=metadata)


class _Cut(FaultyStore):
    """Ends the program as the third pack is sent."""

    sent = 0

    def create(self, key, source, *, metadata=None):  # type: ignore[no-untyped-def]
        if key.startswith(".quilt/packs/"):
            self.sent += 1
            if self.sent > 2:
                raise KeyboardInterrupt
        return super().create(key, source, metadata=metadata)


def test_a_push_that_is_cut_leaves_packs_that_the_next_one_finds(bucket: MemoryStore, folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        push(_Cut(bucket), folder)
    left = packs_in(bucket)
    assert left
    assert not list(bucket.list(".quilt/packs/tables/"))
    assert not list(bucket.list(".quilt/PACKAGE="))
    pushed = push(bucket, folder)
    assert pushed.packs.new_packs <= pushed.packs.packs - len(left)
    assert pushed.tag_moved


def test_a_published_version_gets_packs_and_keeps_its_hash(bucket: MemoryStore, folder: Path, tmp_path: Path) -> None:
    pushed = push(bucket, folder, packs=False)
    index = index_of(bucket, pushed.top_hash, tmp_path)
    manifest = bucket.get(manifest_key("ns/data", pushed.top_hash))
    assert pack_version(bucket, index, read_of(bucket, index)).new_packs == len(packs_in(bucket)) > 5
    assert manifest == bucket.get(manifest_key("ns/data", pushed.top_hash))
    again = MemoryStore("bucket")
    push(again, folder)
    assert packs_in(bucket) == packs_in(again)
    assert get_pack_table(bucket, pushed.top_hash) == get_pack_table(again, pushed.top_hash)


def test_a_file_that_cannot_be_read_costs_its_pack_only(bucket: MemoryStore, folder: Path, tmp_path: Path) -> None:
    pushed = push(bucket, folder, packs=False)
    index = index_of(bucket, pushed.top_hash, tmp_path)
    read = read_of(bucket, index)

    def some(entry: object) -> bytes:
        if entry.logical_key == "d1/0101.txt":  # type: ignore[attr-defined]
            raise ObjectMissing("d1/0101.txt is gone")
        return b"wrong" if entry.logical_key == "d4/0402.txt" else read(entry)  # type: ignore[attr-defined]

    report = pack_version(bucket, index, some)
    assert report.warnings[0].startswith("2 packs were left out")
    assert len(table_of(bucket, index)) == report.packs > 5
    whole = pack_version(bucket, index, read)
    assert (whole.packs, whole.new_packs, whole.warnings) == (report.packs + 2, 2, ())


def test_check_mends_a_damaged_pack(bucket: MemoryStore, folder: Path, tmp_path: Path) -> None:
    pushed = push(bucket, folder)
    index = index_of(bucket, pushed.top_hash, tmp_path)
    key = sorted(packs_in(bucket))[2]
    data = bytearray(bucket.get(key))
    data[-20] ^= 1
    bucket.overwrite(key, bytes(data))
    assert pack_version(bucket, index, read_of(bucket, index)).new_packs == 0
    assert pack_version(bucket, index, read_of(bucket, index), check=True).new_packs == 1
    assert pack_version(bucket, index, read_of(bucket, index), check=True).new_packs == 0
