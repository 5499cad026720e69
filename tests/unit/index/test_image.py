from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from fusepkg.errors import NotADirectory, NotASymlink, UnsupportedFormat
from fusepkg.index import erofs, image
from fusepkg.index.build import build_index
from fusepkg.index.image import BLOCK_BYTES, MAX_FILE_BYTES
from fusepkg.index.opening import Index, check_index, open_index
from fusepkg.index.reader import ImageReader
from fusepkg.model.entry import Entry
from tests.manifests import (
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
        file_entry("a/b", b"12345"),
        file_entry("a b", bytes(4096)),
        file_entry("a!/x", bytes(4097)),
        file_entry("a-b"),
        file_entry("!before the dot", b"1"),
        file_entry(".-between the dots", b"2"),
        file_entry("...", b"3"),
        file_entry(".hidden", b"4"),
        file_entry("é/日/😀\n", b"5"),
        file_entry("n" * 255, b"6"),
        file_entry("large", size=2**32),
        file_entry("larger", size=1 << 40),
        executable_entry("bin/run"),
        symlink_entry("link", "a/b"),
        symlink_entry("é/up", "../a/b"),
        symlink_entry("inline at most", "./" * 2015 + "ab"),
        symlink_entry("longer", "./" * 2016 + "a"),
        symlink_entry("longest", "n" * 4095),
        empty_directory_entry("nothing"),
        empty_directory_entry("é/nothing"),
    ]
)


def index_of(entries: list[Entry], root: Path) -> Index:
    top_hash = build_index([manifest_of(entries)], root, expected_top_hash=None, allow_file_keys=False)
    index = open_index(root, top_hash)
    assert index is not None
    return index


def names(reader: ImageReader, nid: int) -> list[bytes]:
    return [name for name, _, _, _ in reader.readdir(nid)]


def tree_of(reader: ImageReader, nid: int = 0, path: str = "") -> dict[str, tuple[int, int]]:
    """Every path with its nid and type, found by reading directories; each name is looked up, too."""
    found: dict[str, tuple[int, int]] = {}
    for name, child, kind, _ in reader.readdir(nid):
        assert reader.lookup(nid, name) == child
        if name not in (b".", b".."):
            place = f"{path}/{name.decode()}".lstrip("/")
            found[place] = (child, kind)
            if kind == stat.S_IFDIR:
                found |= tree_of(reader, child, place)
    return found


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return index_of(ENTRIES, tmp_path)


def test_every_name_is_there_once_with_its_attributes(index: Index) -> None:
    tree = tree_of(index.image)
    shown = {
        entry.logical_key: number for number, entry in enumerate(ENTRIES) if "empty-directory" not in entry.logical_key
    }
    directories = {"a", "a!", "bin", "nothing", "é", "é/nothing", "é/日"}
    assert set(tree) == set(shown) | directories
    for path, (nid, kind) in tree.items():
        inode = index.image.inode(nid)
        assert inode.mode & 0o170000 == kind
        if path in directories:
            assert (inode.mode, inode.entry_number) == (stat.S_IFDIR | 0o755, None)
            continue
        entry = index.entries.entry(shown[path])
        assert inode.entry_number == shown[path]
        assert (inode.size, inode.nlink) == (entry.size, 1)
        if stat.S_ISREG(inode.mode):
            assert inode.mode & 0o777 == (0o755 if path == "bin/run" else 0o644)
            assert inode.start_block == (index.entries.start_block(shown[path]) if entry.size else 0)
        else:
            assert inode.mode == stat.S_IFLNK | 0o777
            assert index.image.readlink(nid).decode() == entry.meta["fusepkg"]["symlink"]


def test_directories_count_their_subdirectories(index: Index) -> None:
    tree = tree_of(index.image)
    assert index.image.root == 0
    links = {path: index.image.inode(tree[path][0]).nlink for path in ("a", "é", "é/日", "nothing")}
    assert links == {"a": 2, "é": 4, "é/日": 2, "nothing": 2}
    assert index.image.inode(0).nlink == 2 + 5
    assert names(index.image, tree["nothing"][0]) == [b".", b".."]


def test_names_are_in_byte_order_with_the_dots_among_them(index: Index) -> None:
    found = names(index.image, 0)
    assert found == sorted(found)
    assert found[:4] == [b"!before the dot", b".", b".-between the dots", b".."]
    assert index.image.lookup(0, b".") == index.image.lookup(0, b"..") == 0
    deep = tree_of(index.image)["é/日"][0]
    assert index.image.lookup(deep, b"..") == tree_of(index.image)["é"][0]


@pytest.mark.parametrize("name", [b"", b"a", b"A", b"a ", b"a bb", b"\xff", b"zzz", b"\0", b"n" * 254])
def test_other_names_are_not_there(index: Index, name: bytes) -> None:
    assert (index.image.lookup(0, name) is None) == (name != b"a")


def test_what_is_no_directory_or_link_says_so(index: Index) -> None:
    file = index.image.lookup(0, b"a b")
    assert file is not None
    with pytest.raises(NotADirectory):
        index.image.lookup(file, b"x")
    with pytest.raises(NotADirectory):
        list(index.image.readdir(file))
    with pytest.raises(NotASymlink):
        index.image.readlink(file)


def test_an_empty_package_is_an_empty_root(tmp_path: Path) -> None:
    for number, entries in enumerate(([], [empty_directory_entry("")])):
        index = index_of(entries, tmp_path / str(number))
        assert names(index.image, 0) == [b".", b".."]
        assert (index.data_blocks, index.total_bytes, len(index.entries)) == (0, 0, number)


def test_equal_manifests_give_equal_images_and_others_do_not(tmp_path: Path) -> None:
    first, second = (index_of(ENTRIES, tmp_path / name) for name in ("1", "2"))
    other = index_of(ENTRIES[:-1], tmp_path / "3")
    images = [index.image.read(0, index.image.size) for index in (first, second, other)]
    assert images[0] == images[1]
    assert images[0][: len(images[2])] != images[2]
    fields = erofs.SUPERBLOCK.unpack_from(images[0], erofs.SUPERBLOCK_OFFSET)
    assert fields[12].hex() == top_hash_of(ENTRIES)[:32]


def test_the_deepest_path_is_there(tmp_path: Path) -> None:
    parts = ["d"] * 2047 + ["f"]
    index = index_of([file_entry("/".join(parts), b"x"), file_entry("e", b"y")], tmp_path)
    nid: int | None = 0
    for part in parts:
        assert nid is not None
        nid = index.image.lookup(nid, part.encode())
    assert nid is not None
    assert index.image.inode(nid).entry_number == 0


def test_a_large_directory_can_be_searched_and_read_from_any_place(tmp_path: Path) -> None:
    count = 20_000  # some 150 blocks; test_kernel lists 100,000
    keys = [f"{number:06d}" + "x" * (number % 9) for number in range(count)]
    index = index_of([file_entry(f"d/{key}") for key in keys], tmp_path)
    directory = index.image.lookup(0, b"d")
    assert directory is not None
    found = list(index.image.readdir(directory))
    assert [name.decode() for name, _, _, _ in found] == [".", "..", *keys]
    for number in range(0, len(found), 997):
        name, nid, _, following = found[number]
        assert index.image.lookup(directory, name) == nid
        assert index.image.lookup(directory, name + b"\1") is None
        rest = index.image.readdir(directory, following)
        assert next(rest, None) == (found[number + 1] if number + 1 < len(found) else None)
    assert list(index.image.readdir(directory, found[-1][3])) == []
    assert len({position for _, _, _, position in found}) == len(found)
    assert 0 not in {position for _, _, _, position in found}


def test_no_inode_crosses_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "_FLUSH_BYTES", 1000)  # so that inodes are written out in the middle of blocks
    entries = in_order(
        symlink_entry(f"{number}", "x" * (number * 7 % 300 + 1)) if number % 3 else file_entry(f"{number}", size=2**33)
        for number in range(500)
    )
    index = index_of(entries, tmp_path)
    for path, (nid, _) in tree_of(index.image).items():
        inode, offset = index.image.inode(nid), index.image.inode_offset(nid)
        used = 72 if inode.size == 2**33 else 64 + inode.size
        assert offset // BLOCK_BYTES == (offset + used - 1) // BLOCK_BYTES, path


@pytest.mark.parametrize(
    "sizes", [[MAX_FILE_BYTES + 1], [MAX_FILE_BYTES, MAX_FILE_BYTES - BLOCK_BYTES, BLOCK_BYTES], [2**63 - 1]]
)
def test_what_has_no_room_is_refused_by_its_line(tmp_path: Path, sizes: list[int]) -> None:
    entries = [file_entry(f"{number}", size=size) for number, size in enumerate(sizes)]
    with pytest.raises(UnsupportedFormat, match=f"line {1 + len(sizes)}: .*16 TiB"):
        index_of(entries, tmp_path)


def test_the_largest_package_has_room(tmp_path: Path) -> None:
    index = index_of(
        [file_entry("a", size=MAX_FILE_BYTES), file_entry("b", size=MAX_FILE_BYTES - BLOCK_BYTES)], tmp_path
    )
    assert index.data_blocks == erofs.MAX_DEVICE_BLOCKS
    nid = index.image.lookup(0, b"b")
    assert nid is not None
    assert index.image.inode(nid).start_block == 2**31


def test_the_tools_of_erofs_find_no_fault(index: Index, tmp_path: Path) -> None:
    if shutil.which("fsck.erofs") is None:
        pytest.skip("fsck.erofs is not installed (erofs-utils)")
    data = tmp_path / "data"
    data.touch()
    path = index.directory / "image"
    for command in (["fsck.erofs", "-d3"], ["dump.erofs", "-s", "-S"], ["dump.erofs", "--path=/é/日/😀\n", "-e"]):
        run = subprocess.run([*command, f"--device={data}", path], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr
        assert "<E>" not in run.stdout + run.stderr
    check_index(index)
