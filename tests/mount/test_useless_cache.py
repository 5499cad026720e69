"""A cache that cannot be used is no reason not to mount: one warning, and every read goes to the bucket."""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fusepkg.daemon import control, records
from fusepkg.index.opening import open_index
from tests import trees
from tests.command import Fusepkg

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can take a directory from itself"),
]

ANOTHER_USER = 65534
WARNING = "Warning: nothing is cached, every read goes to the bucket: "


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return trees.small(tmp_path / "original")


@pytest.fixture
def package(original: Path, fusepkg: Fusepkg) -> str:
    fusepkg("push", original, "local/small:v1")
    return "local/small:v1"


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    subprocess.run(["mount", "--bind", directory, directory], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", directory], check=True)
        yield
    finally:
        subprocess.run(["umount", directory], check=True)


@contextmanager
def full_disk(directory: Path) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", directory], check=True)
    try:
        room = os.statvfs(directory)
        (directory / "other").write_bytes(bytes(room.f_bavail * room.f_frsize))
        yield
    finally:
        subprocess.run(["umount", directory], check=True)


def indexes_in_temporary_directories(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "temporary").glob("fusepkg-index-*"))


def mount_and_compare(fusepkg: Fusepkg, package: str, original: Path, mountpoint: Path) -> str:
    """Mount, read everything, and unmount; what the mount said on standard error."""
    mountpoint.mkdir(exist_ok=True)
    temporary = {"TMPDIR": str(mountpoint.parent / "temporary")}
    Path(temporary["TMPDIR"]).mkdir(exist_ok=True)
    said = fusepkg("mount", package, mountpoint, env=temporary).stderr
    try:
        for path in original.rglob("*"):
            if path.is_file():
                assert (mountpoint / path.relative_to(original)).read_bytes() == path.read_bytes()
        record, _ = records.find_record(mountpoint)
        assert control.ask(Path(record.socket), control.Question("status"))["cache_refusal"]
        assert open_index(Path(record.index_root), record.top_hash) is not None, "`fusepkg verify DIR` reads it"
        assert len(re.findall("WARNING fusepkg.fetch", Path(record.log).read_text())) == 1
    finally:
        fusepkg("umount", mountpoint)
    return said


def check_warning(said: str, why: str) -> None:
    assert said.count("Warning") == 1
    assert WARNING in said
    assert why in said


@pytest.mark.parametrize("index", ["there", "not there"])
def test_readonly_cache(fusepkg: Fusepkg, package: str, original: Path, tmp_path: Path, home: Path, index: str) -> None:
    """A read-only cache is a warning, with the index in it or without: the bucket is read."""
    cache = home / "fusepkg-cache"
    fusepkg("cache", "info")
    if index == "there":
        fusepkg("ls", package)
    with read_only(cache):
        check_warning(mount_and_compare(fusepkg, package, original, tmp_path / "m"), "Read-only file system")
        assert indexes_in_temporary_directories(tmp_path) == []
        said = fusepkg("cat", package, "README.md")
        assert said.stdout == (original / "README.md").read_text()
        assert said.stderr.count("Warning") == 1
        assert fusepkg("cache", "clear", check=False).returncode == 11
        fusepkg("mount", package, tmp_path / "m")
        assert "Cache: not in use: " in fusepkg("status", tmp_path / "m").stdout
        fusepkg("umount", tmp_path / "m")


def test_a_full_disk(fusepkg: Fusepkg, package: str, original: Path, tmp_path: Path, home: Path) -> None:
    """So is a cache whose disk is full."""
    with full_disk(home / "fusepkg-cache"):
        check_warning(mount_and_compare(fusepkg, package, original, tmp_path / "m"), "No space left on device")
    assert indexes_in_temporary_directories(tmp_path) == []


def test_a_cache_of_another_user(fusepkg: Fusepkg, package: str, original: Path, tmp_path: Path, home: Path) -> None:
    """What another user could change is neither read nor written, their indexes included."""
    cache = home / "fusepkg-cache"
    fusepkg("ls", package)
    for path in (cache / "blobs", cache / "index"):
        path.mkdir(exist_ok=True)
        os.chown(path, ANOTHER_USER, ANOTHER_USER)
    before = sorted(cache.rglob("*"))
    check_warning(mount_and_compare(fusepkg, package, original, tmp_path / "m"), f"belongs to user {ANOTHER_USER}")
    assert [path for path in sorted(cache.rglob("*")) if "logs" not in path.parts] == [
        path for path in before if "logs" not in path.parts
    ]


def test_a_cache_of_a_newer_program(fusepkg: Fusepkg, package: str, original: Path, tmp_path: Path, home: Path) -> None:
    """A cache that a newer fusepkg has laid out is left as it is."""
    fusepkg("cache", "info")
    version = home / "fusepkg-cache" / "blobs" / "v2" / "VERSION"
    version.write_bytes(b"fusepkg-cache 3\n")
    check_warning(mount_and_compare(fusepkg, package, original, tmp_path / "m"), "layout version 3")
    assert version.read_bytes() == b"fusepkg-cache 3\n"
