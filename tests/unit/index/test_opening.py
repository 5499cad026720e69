from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from fusepkg.errors import IndexDamaged
from fusepkg.index.build import build_index
from fusepkg.index.files import ENTRIES, IMAGE, MANIFEST, SUMS
from fusepkg.index.image import BLOCK_BYTES
from fusepkg.index.opening import Index, check_index, open_index
from fusepkg.index.reader import ImageReader
from tests.manifests import HEADER, file_entry, in_order, manifest_of, top_hash_of

PACKAGE = in_order(file_entry(f"d{number % 5}/{number}", b"x" * number) for number in range(300))
TOP_HASH = top_hash_of(PACKAGE)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    build_index([manifest_of(PACKAGE)], tmp_path, expected_top_hash=TOP_HASH, allow_file_keys=False)
    return tmp_path


def opened(root: Path) -> Index:
    index = open_index(root, TOP_HASH)
    assert index is not None
    return index


def test_an_index_knows_its_package(root: Path) -> None:
    index = opened(root)
    assert (index.header, index.top_hash) == (HEADER, TOP_HASH)
    assert index.directory == root / "v1" / TOP_HASH
    assert index.total_bytes == sum(range(300))
    assert index.data_blocks == 299
    check_index(index)


def test_what_was_not_built_is_none(root: Path, tmp_path: Path) -> None:
    assert open_index(root, "0" * 64) is None
    assert open_index(tmp_path / "nowhere", TOP_HASH) is None


def test_another_layout_is_left_alone(root: Path) -> None:
    newer = root / "v2" / TOP_HASH
    newer.mkdir(parents=True)
    (newer / "file").write_bytes(b"of another version")
    opened(root)
    (root / "v1" / TOP_HASH / IMAGE).unlink()
    opened(root)
    assert (newer / "file").read_bytes() == b"of another version"


def missing(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("name", [IMAGE, SUMS, ENTRIES])
@pytest.mark.parametrize("damage", [missing, cut, empty, zeros])
def test_damage_seen_on_opening_is_repaired_without_the_bucket(
    root: Path, name: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = root / "v1" / TOP_HASH / name
    good = path.read_bytes()
    damage(path)
    with caplog.at_level(logging.WARNING):
        index = opened(root)
    assert "building it anew" in caplog.text
    assert path.read_bytes() == good
    check_index(index)
    assert list(index.entries) == PACKAGE


def test_damage_seen_while_reading_is_an_error_and_then_repaired(root: Path) -> None:
    index = opened(root)
    nid = index.image.lookup(0, b"d4")
    assert nid is not None
    at = index.image.inode(nid).start_block * BLOCK_BYTES
    with (index.directory / IMAGE).open("r+b") as image:
        image.seek(at)
        image.write(b"?")
    index = opened(root)
    with pytest.raises(IndexDamaged, match="block"):
        list(index.image.readdir(nid))
    with pytest.raises(IndexDamaged):
        check_index(index)
    again = opened(root)
    check_index(again)
    assert len(list(again.image.readdir(nid))) == 60 + 2


def test_every_changed_byte_of_an_image_is_noticed(root: Path) -> None:
    path = root / "v1" / TOP_HASH / IMAGE
    good = path.read_bytes()
    for at in range(0, len(good), 101):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x40]) + good[at + 1 :])
        with pytest.raises(IndexDamaged):
            ImageReader(path, path.with_name(SUMS)).read(0, len(good))


def test_without_a_good_manifest_the_answer_is_build_it(root: Path) -> None:
    directory = root / "v1" / TOP_HASH
    (directory / MANIFEST).unlink()
    (directory / IMAGE).unlink()
    assert open_index(root, TOP_HASH) is None
    build_index([manifest_of(PACKAGE)], root, expected_top_hash=TOP_HASH, allow_file_keys=False)
    check_index(opened(root))


@pytest.mark.parametrize("names", [(IMAGE, SUMS), (ENTRIES,)])
def test_files_of_two_packages_do_not_mix(root: Path, names: tuple[str, ...]) -> None:
    manifest = manifest_of(PACKAGE, HEADER | {"message": "other"})
    other = build_index([manifest], root, expected_top_hash=None, allow_file_keys=False)
    for name in names:
        (root / "v1" / other / name).write_bytes((root / "v1" / TOP_HASH / name).read_bytes())
    index = open_index(root, other)
    assert index is not None
    assert index.image.top_hash == index.entries.top_hash == other


def test_a_block_in_the_place_of_another_is_noticed(root: Path) -> None:
    image, sums = (root / "v1" / TOP_HASH / name for name in (IMAGE, SUMS))
    for path, unit in ((image, BLOCK_BYTES), (sums, 8)):
        data = path.read_bytes()
        path.write_bytes(data[:unit] + data[2 * unit : 3 * unit] + data[unit : 2 * unit] + data[3 * unit :])
    with pytest.raises(IndexDamaged, match="block 1 "):
        opened(root).image.inode(0)
