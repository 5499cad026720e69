"""What other programs take from a mount: whether two versions look equal, and what copies and file handles are like."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fusepkg.model.times import FIXED_S
from tests.command import run_fusepkg
from tests.mount.conftest import ENGINES, require_engine
from tests.mount.mounting import mounted
from tests.mount.places import surroundings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.mount.mounting import Mount
    from tests.mount.places import Folder

pytestmark = pytest.mark.fuse

libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture(scope="module")
def home(folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two versions of a folder whose changed file keeps its size."""
    home = tmp_path_factory.mktemp("versions")
    with surroundings(home, folder.settings):
        source = home / "source"
        (source / "pkg").mkdir(parents=True)
        (source / "run.sh").write_text("#!/bin/sh\n")
        (source / "run.sh").chmod(0o755)
        for version in (1, 2):
            (source / "pkg" / "conf.py").write_text(f"V = {version}\n")
            run_fusepkg("push", source, f"local/versions:v{version}")
        yield home


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return require_engine(request.param)


@pytest.fixture(scope="module")
def first(home: Path, engine: str) -> Iterator[Mount]:
    with mounted("local/versions:v1", home / f"first-{engine}", engine) as mount:
        yield mount


def test_two_versions_at_one_place(home: Path, engine: str) -> None:
    """Another version at the same place is noticed by whoever compares names, sizes and times: Python, rsync."""
    root, copy = home / f"m-{engine}", home / f"copy-{engine}"
    environment = {**os.environ, "PYTHONPATH": str(root / "pkg"), "PYTHONPYCACHEPREFIX": str(home / f"pyc-{engine}")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    times = []
    for version in (1, 2, 1):
        with mounted(f"local/versions:v{version}", root, engine):
            command = [sys.executable, "-c", "import conf; print(conf.V)"]
            run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            assert run.stdout == f"{version}\n"
            subprocess.run(["rsync", "-a", f"{root}/", copy], check=True)
            assert (copy / "pkg" / "conf.py").read_text() == f"V = {version}\n"
            times.append([os.stat(root / path).st_mtime_ns for path in (".", "pkg", "pkg/conf.py", "run.sh")])
    assert times[0] == times[2]
    assert [a == b for a, b in zip(times[0], times[1], strict=True)] == [False, False, False, True]


@pytest.mark.parametrize("times", ["fixed", "now"])
def test_one_time_for_all(home: Path, engine: str, times: str) -> None:
    """`--times fixed` shows 1980-01-01 for everything, `--times now` the time of the mount."""
    before = int(time.time())
    with mounted("local/versions:v1", home / f"{times}-{engine}", engine, "--times", times) as mount:
        shown = {os.stat(mount / path).st_mtime_ns for path in (".", "pkg", "pkg/conf.py", "run.sh")}
    assert len(shown) == 1
    time_s = shown.pop() / 10**9
    assert time_s == FIXED_S if times == "fixed" else before <= time_s <= time.time()


COPIES = {
    "cp -r": ["cp", "-r"],
    "cp -a": ["cp", "-a"],
    "rsync -a": ["rsync", "-a"],
    "tar": ["sh", "-c", 'mkdir "$1" && tar -C "$0" -c . | tar -C "$1" -xp'],
    "copytree": [sys.executable, "-c", "import shutil, sys; shutil.copytree(sys.argv[1], sys.argv[2])"],
    "into a directory": ["sh", "-c", 'mkdir -m 755 "$1" && cp -a "$0"/. "$1"'],
}


@pytest.mark.parametrize("way", COPIES)
def test_copies_can_be_changed_and_deleted(first: Mount, engine: str, tmp_path: Path, way: str) -> None:
    """Copies of a mount can be changed and deleted by their owner, whichever program made them."""
    source = f"{first.root}/" if way == "rsync -a" else str(first.root)
    subprocess.run([*COPIES[way], source, tmp_path / "copy"], check=True)
    for directory, names, files in os.walk(tmp_path / "copy"):
        assert stat.S_IMODE(os.stat(directory).st_mode) & 0o700 == 0o700, directory
        for name in names + files:
            assert os.stat(os.path.join(directory, name)).st_mode & 0o600 == 0o600, name
            assert os.listxattr(os.path.join(directory, name)) == [], name
    root_mode = stat.S_IMODE(os.stat(tmp_path / "copy").st_mode)
    assert root_mode in ((0o755,) if engine == "fuse" else (0o755, 0o700))


def test_df_shows_the_package(first: Mount) -> None:
    """df and mount name the package as the source."""
    shown = subprocess.run(["df", "--output=source", first.root], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[1] == "local/versions:v1"


def test_listings_have_both_dots(first: Mount) -> None:
    """Listings have `.` and `..`, as programs expect that skip two names."""
    for directory, name in ((first.root, "run.sh"), (first.root / "pkg", "conf.py")):
        shown = subprocess.run(["ls", "-fa", directory], capture_output=True, text=True, check=True)
        assert {".", "..", name} <= set(shown.stdout.split())
        assert len(shown.stdout.split()) == len(os.listdir(directory)) + 2


class Handle(ctypes.Structure):
    """struct file_handle of name_to_handle_at(2)."""

    _fields_ = (("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("data", ctypes.c_char * 128))


def handle_of(path: Path) -> Handle:
    handle, mount_id = Handle(bytes=128), ctypes.c_int()
    if libc.name_to_handle_at(-100, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount_id), 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return handle


def open_handle(root: Path, handle: Handle) -> int:
    directory = os.open(root, os.O_RDONLY)
    try:
        descriptor: int = libc.open_by_handle_at(directory, ctypes.byref(handle), os.O_RDONLY)
    finally:
        os.close(directory)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return descriptor


def test_file_handles_outlive_what_the_kernel_remembers(home: Path, engine: str) -> None:
    """File handles (NFS, overlay) work for files and directories that the kernel has not looked up yet."""
    if os.geteuid() != 0:
        pytest.skip("only root may open by handle")
    paths = ("pkg/conf.py", "pkg", "run.sh", ".")
    with mounted("local/versions:v1", home / f"handles-{engine}", engine) as mount:
        handles = [handle_of(mount / path) for path in paths]
        inodes = [os.stat(mount / path).st_ino for path in paths]
    with mounted("local/versions:v1", home / f"handles-{engine}", engine) as mount:
        for path, handle, inode in zip(paths, handles, inodes, strict=True):
            descriptor = open_handle(mount.root, handle)
            assert os.fstat(descriptor).st_ino == inode
            if path == "pkg/conf.py":
                assert os.read(descriptor, 100) == b"V = 1\n"
            elif path == "pkg":
                assert os.listdir(descriptor) == ["conf.py"]
            os.close(descriptor)
    if engine == "fuse":  # the kernel's EROFS has no generations
        with mounted("local/versions:v2", home / f"handles-{engine}", engine) as mount:
            with pytest.raises(OSError) as caught:
                open_handle(mount.root, handles[0])
            assert caught.value.errno == errno.ESTALE


def test_a_mount_below_an_overlay(first: Mount, tmp_path: Path) -> None:
    """A mount can be the lower directory of an overlay."""
    for name in ("upper", "work", "merged"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={first.root},upperdir={tmp_path}/upper,workdir={tmp_path}/work,index=off"
    command = ["mount", "-t", "overlay", "overlay", "-o", options, tmp_path / "merged"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no overlay here: {done.stderr.strip()}")
    try:
        merged = tmp_path / "merged"
        (merged / "pkg" / "conf.py").write_text("V = 3\n")
        (merged / "new").write_text("new")
        (merged / "run.sh").unlink()
        assert sorted(os.listdir(merged)) == ["new", "pkg"]
        assert (merged / "pkg" / "conf.py").read_text() == "V = 3\n"
    finally:
        subprocess.run(["umount", tmp_path / "merged"], check=True)
        shutil.rmtree(tmp_path / "work", ignore_errors=True)
    assert (first / "pkg" / "conf.py").read_text() == "V = 1\n"


def test_direct_io_and_fsync(first: Mount, engine: str) -> None:
    """O_DIRECT and fsync(2) work with fuse; with erofs they fail with EINVAL, as the kernel's EROFS has neither."""
    path = first / "pkg" / "conf.py"
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if engine == "fuse":
            os.fsync(descriptor)
            direct = os.open(path, os.O_RDONLY | os.O_DIRECT)
            assert os.read(direct, 4096) == b"V = 1\n"
            os.close(direct)
        else:
            with pytest.raises(OSError, match="Invalid argument"):
                os.fsync(descriptor)
            with pytest.raises(OSError, match="Invalid argument"):
                os.open(path, os.O_RDONLY | os.O_DIRECT)
    finally:
        os.close(descriptor)
