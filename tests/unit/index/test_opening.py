from __future__ import annotations

import logging
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fusepkg.errors import IndexDamaged
from fusepkg.index import build as building
from fusepkg.index.build import build_index
from fusepkg.index.files import ENTRIES, IMAGE, MANIFEST, SEAL
from fusepkg.index.image import BLOCK_BYTES
from fusepkg.index.opening import Index, check_index, open_index
from fusepkg.index.seal import KEY
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
    assert index.directory == root / "v2" / TOP_HASH
    assert index.total_bytes == sum(range(300))
    assert index.data_blocks == 299
    check_index(index)


def test_what_was_not_built_is_none(root: Path, tmp_path: Path) -> None:
    assert open_index(root, "0" * 64) is None
    assert open_index(tmp_path / "nowhere", TOP_HASH) is None


def test_another_layout_is_left_alone(root: Path) -> None:
    newer = root / "v3" / TOP_HASH
    newer.mkdir(parents=True)
    (newer / "file").write_bytes(b"of another version")
    opened(root)
    (root / "v2" / TOP_HASH / IMAGE).unlink()
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


@pytest.mark.parametrize("name", [IMAGE, SEAL, ENTRIES])
@pytest.mark.parametrize("damage", [missing, cut, empty, zeros])
def test_damage_seen_on_opening_is_repaired_without_the_bucket(
    root: Path, name: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = root / "v2" / TOP_HASH / name
    good = path.read_bytes()
    damage(path)
    with caplog.at_level(logging.WARNING):
        index = opened(root)
        check_index(index)
    assert "rebuilding it" in caplog.text
    assert path.read_bytes() == good
    assert list(index.entries) == PACKAGE


def everything(index: Index) -> tuple[object, ...]:
    """All that can be read of an index: names, attributes, entries, the image itself."""
    inodes = []
    waiting = [0]
    while waiting:
        nid = waiting.pop()
        for name, child, _, _ in index.image.readdir(nid):
            inode = index.image.inode(child)
            inodes.append((name, inode))
            if inode.is_directory and name not in (b".", b".."):
                waiting.append(child)
    image = index.image.read(0, index.image.size)
    return image, inodes, list(index.entries), [index.entries.start_block(n) for n in range(len(index.entries))]


@pytest.mark.parametrize("seed", range(12))
def test_damage_anywhere_at_any_time_costs_no_reader_a_byte(root: Path, seed: int) -> None:
    """Flipped bits, cuts and removals in any file below the directory of indexes, before and while it is open."""
    chosen = random.Random(seed)
    want = everything(opened(root))
    index = opened(root)
    for _ in range(12):
        paths = sorted(path for path in root.rglob("*") if path.is_file() and path.name != MANIFEST)
        path = chosen.choice(paths)
        data = bytearray(path.read_bytes())
        at = chosen.randrange(len(data))
        what = chosen.choice(["flip", "flip", "cut", "remove", "remove all"])
        if what == "flip":
            data[at] ^= 1 << chosen.randrange(8)
            path.write_bytes(data)
        elif what == "cut":
            os.truncate(path, at)
        elif what == "remove":
            path.unlink()
        else:
            shutil.rmtree(root / "v2")
        if chosen.random() < 0.5:
            assert everything(index) == want, (what, path, at)
        if chosen.random() < 0.5 and (root / "v2").exists():
            index = opened(root)
            assert everything(index) == want, (what, path, at)
        elif not (root / "v2").exists():
            assert everything(index) == want
            build_index([manifest_of(PACKAGE)], root, expected_top_hash=TOP_HASH, allow_file_keys=False)


def test_damage_seen_while_reading_is_repaired_for_all_readers(root: Path) -> None:
    first, second = opened(root), opened(root)
    want = everything(first)
    path = root / "v2" / TOP_HASH / IMAGE
    for index in (first, second):
        path.write_bytes(bytes(path.stat().st_size))
        assert everything(index) == want
    assert everything(opened(root)) == want


def test_damage_in_a_cache_that_cannot_be_written_is_repaired_elsewhere(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = opened(root)
    path = root / "v2" / TOP_HASH / IMAGE
    want = path.read_bytes()
    path.write_bytes(bytes(len(want)))
    scratch = building.scratch_directory

    def refused(parent: Path, prefix: str) -> object:
        if parent.is_relative_to(root):
            raise OSError(30, "Read-only file system")
        return scratch(parent, prefix)

    monkeypatch.setattr(building, "scratch_directory", refused)
    assert index.image.read(0, len(want)) == want
    assert path.read_bytes() != want


def test_without_a_good_manifest_a_damaged_index_in_use_comes_from_the_bucket(root: Path) -> None:
    fetched = []

    def refetch(where: Path) -> None:
        fetched.append(where)
        build_index([manifest_of(PACKAGE)], where, expected_top_hash=TOP_HASH, allow_file_keys=False)

    index = open_index(root, TOP_HASH, refetch)
    assert index is not None
    want = everything(opened(root))
    for name in (MANIFEST, ENTRIES, IMAGE):
        os.truncate(root / "v2" / TOP_HASH / name, 10)
    assert everything(index) == want
    assert fetched == [root]


def test_without_any_good_manifest_a_read_is_an_error(root: Path) -> None:
    index = opened(root)
    for name in (MANIFEST, ENTRIES):
        os.truncate(root / "v2" / TOP_HASH / name, 4096)
    with pytest.raises(IndexDamaged, match="entries"):
        list(index.entries)


def test_without_a_good_manifest_the_answer_is_build_it(root: Path) -> None:
    directory = root / "v2" / TOP_HASH
    (directory / MANIFEST).unlink()
    (directory / IMAGE).unlink()
    assert open_index(root, TOP_HASH) is None
    build_index([manifest_of(PACKAGE)], root, expected_top_hash=TOP_HASH, allow_file_keys=False)
    check_index(opened(root))


@pytest.mark.parametrize("names", [(IMAGE,), (SEAL,), (ENTRIES,), (IMAGE, SEAL, ENTRIES)])
def test_files_of_another_package_are_not_believed(root: Path, names: tuple[str, ...]) -> None:
    manifest = manifest_of(PACKAGE, HEADER | {"message": "other"})
    other = build_index([manifest], root, expected_top_hash=None, allow_file_keys=False)
    for name in names:
        (root / "v2" / other / name).write_bytes((root / "v2" / TOP_HASH / name).read_bytes())
    index = open_index(root, other)
    assert index is not None
    assert index.image.top_hash == index.entries.top_hash == other


def test_an_index_that_somebody_else_has_made_is_rebuilt(root: Path, tmp_path: Path) -> None:
    """Right in itself, sums and seal included, but sealed with a secret that is not this cache's."""
    manifest = manifest_of(PACKAGE).replace(b"s3://bucket/", b"s3://theirs/")  # places are not under the top hash
    theirs = tmp_path / "theirs"
    build_index([manifest], theirs, expected_top_hash=TOP_HASH, allow_file_keys=False)
    for name in (IMAGE, ENTRIES, SEAL):
        shutil.copy(theirs / "v2" / TOP_HASH / name, root / "v2" / TOP_HASH / name)
    assert list(opened(theirs).entries) != PACKAGE
    assert list(opened(root).entries) == PACKAGE


@pytest.mark.parametrize("what", ["missing", "readable", "another", "link"])
def test_without_its_secret_an_index_is_rebuilt(root: Path, tmp_path: Path, what: str) -> None:
    key = root / KEY
    before = key.read_bytes()
    if what == "missing":
        key.unlink()
    elif what == "readable":
        key.chmod(0o640)
    elif what == "another":
        key.write_bytes(bytes(32))
    else:
        key.rename(tmp_path / "elsewhere")
        key.symlink_to(tmp_path / "elsewhere")
    index = opened(root)
    assert list(index.entries) == PACKAGE
    assert key.stat().st_mode & 0o777 == 0o600
    assert not key.is_symlink()
    assert (key.read_bytes() == before) is False
    assert list(opened(root).entries) == PACKAGE


def test_an_index_of_the_older_layout_is_taken_over_without_the_bucket(root: Path) -> None:
    new, old = root / "v2" / TOP_HASH, root / "v1" / TOP_HASH
    old.mkdir(parents=True)
    (new / MANIFEST).rename(old / MANIFEST)
    (old / IMAGE).write_bytes(b"of the older layout")
    shutil.rmtree(root / "v2")
    assert list(opened(root).entries) == PACKAGE
    assert not (root / "v1").exists()


def test_a_block_in_the_place_of_another_is_noticed(root: Path) -> None:
    index = opened(root)
    want = everything(index)
    image = root / "v2" / TOP_HASH / IMAGE
    data = image.read_bytes()
    unit = BLOCK_BYTES
    image.write_bytes(data[:unit] + data[2 * unit : 3 * unit] + data[unit : 2 * unit] + data[3 * unit :])
    assert everything(opened(root)) == want
    assert image.read_bytes() == data
