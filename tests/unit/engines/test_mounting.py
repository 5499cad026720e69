"""Making a mount in this process: falling back to fuse, and what is left when serving fails."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fusepkg.engines import kernel
from fusepkg.index.build import build_index
from tests.manifests import file_entry, manifest_of

pytestmark = pytest.mark.fuse

PROGRAM = """
import os, sys
from pathlib import Path
import trio
from fusepkg_cache.errors import CacheUnusable
from fusepkg.engines import erofs_mount, mounting
from fusepkg.engines.mounting import EngineChoice, MountOptions, mounted
from fusepkg.errors import EngineUnavailable, MountFailed
from fusepkg.fetch.reader import EntryReader
from fusepkg.index.opening import open_index

root, top_hash, place, what = sys.argv[1:]
index = open_index(Path(root), top_hash)

def no_cache():
    raise CacheUnusable("there is none")

def no_mount(device, mountpoint):
    raise {"unavailable": EngineUnavailable, "failed": MountFailed, "os": OSError}[what]("the kernel says no")

async def main():
    choice = EngineChoice("fuse", "asked for")
    if what in ("unavailable", "failed", "os"):
        erofs_mount.mount_erofs = no_mount
        choice = EngineChoice("erofs", "chosen", may_fall_back=True)
    async with trio.open_nursery() as nursery:
        source = EntryReader(no_cache, None, None, nursery)
        options = MountOptions(Path(place), "local/x, y:v1")
        async with mounted(index, source, choice, options, {}) as mount:
            names = await trio.to_thread.run_sync(os.listdir, place)
            print(mount.choice.engine, mount.choice.reason, names, flush=True)
            if what in ("fails", "fails early"):
                mount.is_announced = what == "fails"
                raise RuntimeError("a bug")
        nursery.cancel_scope.cancel()

trio.run(main)
"""


def run(tmp_path: Path, what: str) -> subprocess.CompletedProcess[str]:
    if (reason := kernel.why_no_fuse()) is not None:
        pytest.skip(reason)
    root, place = tmp_path / "index", tmp_path / "m"
    place.mkdir()
    manifest = manifest_of([file_entry("a", b"1")])
    top_hash = build_index([manifest], root, expected_top_hash=None, allow_file_keys=False)
    command = [sys.executable, "-c", PROGRAM, root, top_hash, place, what]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("what", ["unavailable", "failed", "os"])
def test_whatever_hinders_erofs_leads_to_fuse(tmp_path: Path, what: str) -> None:
    done = run(tmp_path, what)
    assert done.stdout == "fuse erofs failed: the kernel says no ['a']\n", done.stderr
    assert done.returncode == 0
    assert not os.path.ismount(tmp_path / "m")


def test_a_mount_that_fails_gives_errors_and_not_an_empty_directory(tmp_path: Path) -> None:
    done = run(tmp_path, "fails")
    try:
        assert "a bug" in done.stderr
        with pytest.raises(OSError) as caught:
            os.listdir(tmp_path / "m")
        assert caught.value.errno == errno.ENOTCONN
    finally:
        kernel.unmount(tmp_path / "m", lazy=True)


def test_a_mount_that_was_never_announced_is_taken_away(tmp_path: Path) -> None:
    assert "a bug" in run(tmp_path, "fails early").stderr
    assert os.listdir(tmp_path / "m") == []
    assert not os.path.ismount(tmp_path / "m")


SWITCHING = """
import os, sys
from pathlib import Path
import trio
from fusepkg_cache.errors import CacheUnusable
from fusepkg.engines import notifications
from fusepkg.engines.mounting import EngineChoice, MountOptions, mounted
from fusepkg.fetch.reader import EntryReader
from fusepkg.index.opening import open_index

root, first, second, place, what = sys.argv[1:]
if what == "old kernel":
    notifications.forget_all_names = lambda device: False

def no_cache():
    raise CacheUnusable("there is none")

def look():
    found = sorted(os.listdir(place))
    for name in ("a", "b", "c"):
        found.append(os.path.exists(os.path.join(place, name, "x")))
    return found

async def main():
    async with trio.open_nursery() as nursery:
        source = EntryReader(no_cache, None, None, nursery)
        options = MountOptions(Path(place), "local/x:v1")
        async with mounted(open_index(Path(root), first), source, EngineChoice("fuse", ""), options, {}) as mount:
            print(await trio.to_thread.run_sync(look), flush=True)
            await mount.show(open_index(Path(root), second), "local/x:v2", {})
            print(await trio.to_thread.run_sync(look), flush=True)
        nursery.cancel_scope.cancel()

trio.run(main)
"""


@pytest.mark.parametrize("what", ["new kernel", "old kernel"])
def test_a_switch_on_kernels_that_forget_names_one_by_one(tmp_path: Path, what: str):
    if (reason := kernel.why_no_fuse()) is not None:
        pytest.skip(f"the fuse engine cannot run: {reason}")
    hashes = []
    for names in (["a/x", "b/x"], ["b/x", "c/x"]):
        manifest = manifest_of([file_entry(name) for name in names])
        hashes.append(build_index([manifest], tmp_path / "index", expected_top_hash=None, allow_file_keys=False))
    place = tmp_path / "m"
    place.mkdir()
    command = [sys.executable, "-c", SWITCHING, str(tmp_path / "index"), *hashes, str(place), what]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.splitlines() == ["['a', 'b', True, True, False]", "['b', 'c', False, True, True]"], done.stderr
