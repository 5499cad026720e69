from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from fusepkg.state.file_identity import FileSystems, is_lasting_name, name_filesystem


def mount(*words: str | Path) -> None:
    answer = subprocess.run(["mount", *map(str, words)], capture_output=True, text=True, timeout=30, check=False)
    if answer.returncode:
        pytest.skip(f"nothing can be mounted here: {answer.stderr.strip()}")


@pytest.fixture
def mountpoint(tmp_path: Path):
    directory = tmp_path / "m"
    directory.mkdir()
    yield directory
    while subprocess.run(["umount", str(directory)], capture_output=True, timeout=30, check=False).returncode == 0:
        pass


def test_a_file_system_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    file_systems = FileSystems()
    first = file_systems.identity(tmp_path / "a", (tmp_path / "a").stat())
    (tmp_path / "a").unlink()
    second = file_systems.identity(tmp_path / "b", (tmp_path / "b").stat())
    assert first.filesystem == second.filesystem


def test_what_cannot_be_opened_has_a_name_that_nothing_else_gets(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    names = {name_filesystem(tmp_path / "gone", device), name_filesystem(tmp_path / "gone", device)}
    names.add(name_filesystem(tmp_path, device + 1))  # another file system is there by now
    assert len(names) == 3
    assert not any(map(is_lasting_name, names))


@pytest.mark.parametrize("path", ["/proc/version", "/dev/shm", "/sys"])
def test_file_systems_in_memory_have_no_lasting_name(path: str) -> None:
    if os.path.exists(path):
        assert not is_lasting_name(name_filesystem(path, os.stat(path).st_dev))


@pytest.mark.parametrize("kind", ["ext4", "squashfs", "erofs", "tmpfs"])
def test_images_and_tmpfs_are_known_for_one_mount_only(tmp_path: Path, mountpoint: Path, kind: str) -> None:
    makers = {
        "ext4": ["mke2fs", "-q", "-F", "-t", "ext4", "-d", "src", "image", "4M"],
        "squashfs": ["mksquashfs", "src", "image", "-quiet", "-no-progress"],
        "erofs": ["mkfs.erofs", "-T", "315532800", "image", "src"],
    }
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "x").write_text("x")
    if kind in makers:
        if shutil.which(makers[kind][0]) is None:
            pytest.skip(f"{makers[kind][0]} is not installed")
        subprocess.run(makers[kind], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    names = []
    for _ in range(2):
        if kind == "tmpfs":
            mount("-t", "tmpfs", "none", mountpoint)
            (mountpoint / "x").write_text("x")
        else:
            mount("-o", "loop,ro", tmp_path / "image", mountpoint)
        status = (mountpoint / "x").stat()
        first, again = (FileSystems().identity(mountpoint / "x", status) for _ in range(2))
        assert not first.is_lasting
        if first.filesystem.startswith("mount "):  # Linux 6.8 and later
            assert first == again
        names.append(first.filesystem)
        subprocess.run(["umount", str(mountpoint)], check=True, timeout=30)
    assert names[0] != names[1]


def test_a_bind_mount_is_the_file_system_it_shows(tmp_path: Path, mountpoint: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "x").write_text("x")
    mount("--bind", tmp_path / "src", mountpoint)
    mount("-o", "remount,bind,ro", mountpoint)
    status = (mountpoint / "x").stat()
    there, here = (FileSystems().identity(at / "x", status) for at in (mountpoint, tmp_path / "src"))
    assert there.is_lasting == here.is_lasting
    if here.is_lasting:
        assert there == here
