"""Images as the kernel reads them: EROFS mounted straight from the image file and a data file."""

from __future__ import annotations

import ctypes
import os
import random
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fusepkg_cache.digest import Algorithm, Digest

from fusepkg.index.build import build_index
from fusepkg.index.image import BLOCK_BYTES
from fusepkg.index.opening import Index, open_index
from fusepkg.model.entry import Entry, EntryKind, meta_for
from fusepkg.model.times import entry_time_s
from tests.manifests import empty_directory_entry, executable_entry, file_entry, in_order, manifest_of, symlink_entry

MS_RDONLY = 1
MNT_DETACH = 2
libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def mounted(index: Index, data: Path, place: Path) -> Iterator[Path]:
    """The package as the kernel shows it; skips where this kernel cannot mount EROFS from files."""
    place.mkdir()
    image = os.fsencode(index.directory / "image")
    if libc.mount(image, os.fsencode(place), b"erofs", MS_RDONLY, b"device=" + os.fsencode(data)):
        pytest.skip(f"EROFS cannot be mounted from a file (root, Linux 6.12): {os.strerror(ctypes.get_errno())}")
    try:
        yield place
    finally:
        assert not libc.umount2(os.fsencode(place), MNT_DETACH), os.strerror(ctypes.get_errno())


def index_of(entries: list[Entry], root: Path) -> Index:
    top_hash = build_index([manifest_of(entries)], root, expected_top_hash=None, allow_file_keys=False)
    index = open_index(root, top_hash)
    assert index is not None
    return index


def data_of(index: Index, contents: dict[str, bytes], path: Path) -> Path:
    """The data device, sparse: contents are put at the end of their entry's bytes."""
    with path.open("wb") as file:
        file.truncate(index.data_blocks * BLOCK_BYTES)
        for number, entry in enumerate(index.entries):
            content = contents.get(entry.logical_key, b"")
            file.seek(index.entries.start_block(number) * BLOCK_BYTES + entry.size - len(content))
            file.write(content)
    return path


def test_the_kernel_shows_the_tree_that_was_meant(tmp_path: Path) -> None:
    noise = random.Random(1)
    contents = {
        "a/b": b"12345",
        "a!/x": noise.randbytes(4097),
        "empty": b"",
        ".-z": b"1",
        "!first": b"2",
        "...": b"3",
        "é/日/😀\n": b"4",
        "n" * 255: noise.randbytes(200_000),
        "bin/run": b"#!/bin/sh\n",
        **{f"many/{number:05d}{'x' * (number % 50)}": bytes([number % 256]) * (number % 9) for number in range(3000)},
    }
    links = {"link": "a/b", "a/up": "../é", "long": "./" * 2040 + "a", "inline": "./" * 2015 + "ab"}
    links |= {f"links/{number}": "../" + "./" * (number * 37 % 300) + "empty" for number in range(100)}
    source = tmp_path / "source"
    for key, content in contents.items():
        (source / key).parent.mkdir(parents=True, exist_ok=True)
        (source / key).write_bytes(content)
    for key, target in links.items():
        (source / key).parent.mkdir(parents=True, exist_ok=True)
        (source / key).symlink_to(target)
    (source / "nothing").mkdir()
    entries = [file_entry(key, data) for key, data in contents.items() if key != "bin/run"]
    entries += [executable_entry("bin/run"), empty_directory_entry("nothing")]
    entries += [symlink_entry(key, target) for key, target in links.items()]
    index = index_of(in_order(entries), tmp_path / "index")
    files = {key: data for key, data in contents.items() if data}
    with mounted(index, data_of(index, files, tmp_path / "data"), tmp_path / "mount") as mount:
        compared = subprocess.run(
            ["diff", "-r", "--no-dereference", source, mount], capture_output=True, text=True, check=False
        )
        assert compared.returncode == 0, compared.stdout[:2000]
        assert stat.S_IMODE(os.stat(mount / "bin/run").st_mode) == 0o755
        assert stat.S_IMODE(os.stat(mount / "a/b").st_mode) == 0o644
        for entry in entries:
            if entry.kind is not EntryKind.EMPTY_DIRECTORY:
                assert os.lstat(mount / entry.logical_key).st_mtime_ns == entry_time_s(entry) * 10**9
        for path in ("", "a", "many", "nothing"):
            assert os.stat(mount / path).st_mtime == index.image.inode(inode_number(index, path) - 1).mtime_s
        assert os.stat(mount).st_nlink == 2 + sum(
            1 for path in source.iterdir() if path.is_dir() and not path.is_symlink()
        )
        shown = subprocess.run(["ls", "-a", mount], capture_output=True, check=True).stdout.split(b"\n")
        assert {b".", b".."} <= set(shown), "the root must not have inode number 0"
        for path in ("a/b", "many", "link"):
            assert os.lstat(mount / path).st_ino == inode_number(index, path)


def inode_number(index: Index, path: str) -> int:
    nid = 0
    for name in path.encode().split(b"/") if path else []:
        found = index.image.lookup(nid, name)
        assert found is not None
        nid = found
    return nid + 1


def test_files_above_4_gib_and_of_1_tib(tmp_path: Path) -> None:
    sizes = {"5 GiB": 5 << 30, "a last byte": 1, "just 4 GiB": 1 << 32, "1 TiB and a bit": (1 << 40) + 5}
    digest = Digest(Algorithm.SHA2_256_CHUNKED, bytes(32))
    entries = in_order(Entry(key, file_entry(key).physical_key, size, digest) for key, size in sizes.items())
    index = index_of(entries, tmp_path / "index")
    contents = {key: f"end of {key}".encode()[-size:] for key, size in sizes.items()}
    with mounted(index, data_of(index, contents, tmp_path / "data"), tmp_path / "mount") as mount:
        for key, size in sizes.items():
            assert os.stat(mount / key).st_size == size
            with (mount / key).open("rb") as file:
                file.seek(-len(contents[key]), os.SEEK_END)
                assert file.read() == contents[key]
                file.seek(size // 2)
                assert file.read(100) == (bytes(100) if size > 1 else contents[key])


def test_a_directory_of_100_000_entries(tmp_path: Path) -> None:
    keys = [f"d/{number:06d}" for number in range(100_000)]
    index = index_of([file_entry(key) for key in keys], tmp_path / "index")
    with mounted(index, data_of(index, {}, tmp_path / "data"), tmp_path / "mount") as mount:
        assert sorted(f"d/{name}" for name in os.listdir(mount / "d")) == keys
        for key in keys[::4999]:
            assert os.stat(mount / key).st_size == 0
            assert not (mount / f"{key}x").exists()


def test_links_and_directories_of_a_package_are_followed(tmp_path: Path) -> None:
    meta = meta_for(EntryKind.EXECUTABLE)
    script = b"#!/bin/sh\necho it runs\n"
    entries = in_order([file_entry("bin/run", script, meta=meta), symlink_entry("run", "bin/../bin/run")])
    index = index_of(entries, tmp_path / "index")
    with mounted(index, data_of(index, {"bin/run": script}, tmp_path / "data"), tmp_path / "mount") as mount:
        assert subprocess.run([mount / "run"], capture_output=True, check=True).stdout == b"it runs\n"
