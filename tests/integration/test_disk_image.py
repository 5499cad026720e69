"""A version as one file that the kernel mounts by itself."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests import trees
from tests.command import Fusepkg

LARGE_BYTES = 9_000_001
"""More than one chunk, and an end within a block."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = trees.small(tmp_path / "folder")
    (folder / "large.bin").write_bytes(trees.content("large", LARGE_BYTES))
    (folder / "nothing").mkdir()
    return folder


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory, empty."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def package(folder: Path, fusepkg: Fusepkg) -> str:
    fusepkg("push", folder, "local/ns/data:v1")
    return "local/ns/data:v1"


def run(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def assert_equal_trees(left: Path, right: Path) -> None:
    assert run("diff", "-r", "--no-dereference", left, right) == ""


def test_it_holds_the_folder_and_is_the_same_each_time(registry: str, folder: Path, fusepkg: Fusepkg, tmp_path: Path):
    package = f"{registry}/ns/data:v1"
    fusepkg("push", folder, package)
    facts = json.loads(fusepkg("image", package, "data.erofs", "--json").stdout)
    assert (facts["file"], facts["size"]) == (str(Path.cwd() / "data.erofs"), Path("data.erofs").stat().st_size)
    assert Path("data.erofs").stat().st_mode & 0o777 == 0o644
    again = {"FUSEPKG_CACHE_DIR": str(tmp_path / "other-cache")}
    fusepkg("image", package, "again.erofs", env=again)
    assert Path("again.erofs").read_bytes() == Path("data.erofs").read_bytes()
    assert "all bytes are right" in fusepkg("image", package, "data.erofs", "--check").stdout
    assert "<E>" not in run("fsck.erofs", "--extract=extracted", "data.erofs")
    assert_equal_trees(folder, Path("extracted"))
    if os.geteuid():
        pytest.skip("mounting a file with mount(8) needs root")
    Path("dir").mkdir()
    run("mount", "-t", "erofs", "data.erofs", "dir")
    try:
        assert_equal_trees(folder, Path("dir"))
    finally:
        run("umount", "dir")


def test_wrong_bytes_and_other_files_are_found(package: str, fusepkg: Fusepkg):
    fusepkg("image", package, "data.erofs")
    whole = Path("data.erofs").read_bytes()
    at = whole.index(trees.content("large", LARGE_BYTES)[-1000:])
    for place, code, said in ((at, 6, "wrong bytes in large.bin"), (1024 + 60, 2, "is not the disk image of")):
        Path("data.erofs").write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        done = fusepkg("image", package, "data.erofs", "--check", check=False)
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    Path("data.erofs").write_bytes(whole[:-1])
    assert fusepkg("image", package, "data.erofs", "--check", check=False).returncode == 2


def test_nothing_half_done_is_left(package: str, fusepkg: Fusepkg, home: Path):
    Path("taken").write_text("mine")
    done = fusepkg("image", package, "taken", check=False)
    assert (done.returncode, Path("taken").read_text()) == (2, "mine")
    assert "there is a file taken already" in done.stderr
    next(home.rglob("ns/data/large.bin")).unlink()
    done = fusepkg("image", package, "data.erofs", check=False)
    assert (done.returncode, "large.bin" in done.stderr) == (3, True), done.stderr
    assert fusepkg("image", package, "/nowhere/data.erofs", check=False).returncode == 14
    assert os.listdir() == ["taken"]


def test_a_full_disk(package: str, fusepkg: Fusepkg, tmp_path: Path):
    if os.geteuid():
        pytest.skip("mounting a small disk needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=4m", "none", disk)
    try:
        done = fusepkg("image", package, disk / "data.erofs", check=False)
        assert "No space left on device" in done.stderr
        assert (done.returncode, os.listdir(disk)) == (14, [])
    finally:
        run("umount", disk)
