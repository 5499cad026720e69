"""How mounts end, and what is left of them: nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fusepkg.daemon import records
from tests.mount.mounting import end, ended, forget_pages
from tests.plugins.leftovers import mounts_below

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from fusepkg.daemon.records import MountRecord
    from tests.command import Fusepkg
    from tests.mount.conftest import Originals
    from tests.mount.mounting import Mount
    from tests.mount.places import Place

    MountFactory = Callable[..., AbstractContextManager[Mount]]

pytestmark = pytest.mark.fuse


def check_gone(record: MountRecord) -> None:
    """Not mounted any more, the daemon has ended, record and socket are removed, the directory is empty again."""
    assert ended(record.pid)
    assert mounts_below(Path(record.mountpoint)) == []
    assert not Path(record.socket).exists()
    assert record.mount_id not in [other.mount_id for other in records.read_records()]
    assert not (records.runtime_directory() / f"{record.mount_id}.json").exists()
    assert os.listdir(record.mountpoint) == []


WAYS_TO_END: dict[str, tuple[str, ...]] = {
    "fusepkg umount": (sys.executable, "-m", "fusepkg", "umount"),
    "fusepkg umount --lazy": (sys.executable, "-m", "fusepkg", "umount", "--lazy"),
    "umount": ("umount",),
    "umount -l": ("umount", "-l"),
    "fusermount3 -u": ("fusermount3", "-u"),
}


@pytest.mark.parametrize("way", WAYS_TO_END)
def test_ways_to_unmount(mount: MountFactory, way: str) -> None:
    """`fusepkg umount`, umount(8) and fusermount3 -u end a mount, its process, its record."""
    with mount("small:v1") as mounted:
        (mounted / "README.md").read_bytes()
        done = subprocess.run([*WAYS_TO_END[way], mounted.root], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        check_gone(mounted.record)


def test_a_busy_mount_stays(mount: MountFactory, fusepkg: Fusepkg, originals: Originals) -> None:
    """While a program has a file open or works in the mount, unmounting is refused and nothing changes."""
    with mount("small:v1") as mounted:

        def refused() -> None:
            said = fusepkg("umount", mounted.root, check=False)
            assert said.returncode == 7
            assert f"Error: {mounted.root} is in use" in said.stderr
            assert "--lazy" in said.stderr
            assert (mounted / "run.sh").read_bytes() == (originals.small / "run.sh").read_bytes()

        with (mounted / "README.md").open("rb"):
            refused()
        sleeper = subprocess.Popen(["cat"], cwd=mounted / "train", stdin=subprocess.PIPE)
        try:
            refused()
        finally:
            sleeper.communicate(b"")
        fusepkg("umount", mounted.root)
        check_gone(mounted.record)


def test_lazily_with_a_file_open(mount: MountFactory, fusepkg: Fusepkg, originals: Originals) -> None:
    """`umount --lazy` takes the mount out of sight at once; who has a file open reads on, and then it ends."""
    with mount("small:v1") as mounted:
        with (mounted / "large.bin").open("rb") as held:
            fusepkg("umount", "--lazy", mounted.root)
            assert mounts_below(mounted.root) == []
            assert os.listdir(mounted.root) == []
            assert held.read() == (originals.small / "large.bin").read_bytes()
        check_gone(mounted.record)


def test_killed(mount: MountFactory, fusepkg: Fusepkg, originals: Originals) -> None:
    """After kill -9 of the daemon, reads give the right bytes or an error, never others; `umount` clears up."""
    with mount("small:v1") as mounted:
        (mounted / "README.md").read_bytes()
        held = os.open(mounted / "large.bin", os.O_RDONLY)
        try:
            assert os.pread(held, 10, 0) == (originals.small / "large.bin").read_bytes()[:10]
            os.kill(mounted.record.pid, signal.SIGKILL)
            assert ended(mounted.record.pid)
            with suppress(OSError):
                forget_pages(mounted / "README.md")
            for name in ("README.md", "run.sh", "train/class1/1.bin"):
                with suppress(OSError):
                    assert (mounted / name).read_bytes() == (originals.small / name).read_bytes()
            with pytest.raises(OSError):
                (mounted / "test/class1/3.bin").read_bytes()
            with pytest.raises(OSError):
                os.pread(held, 10, 8_000_000)
        finally:
            with suppress(OSError):  # close(2) asks the daemon too
                os.close(held)
        listed = json.loads(fusepkg("mounts", "--json").stdout)
        assert [entry["alive"] for entry in listed if entry["mountpoint"] == str(mounted.root)] == [False]
        line = next(line for line in fusepkg("mounts").stdout.splitlines() if str(mounted.root) in line)
        assert "dead" in line
        said = fusepkg("status", mounted.root, check=False)
        assert said.returncode == 12
        assert "Traceback" not in said.stderr
        fusepkg("umount", mounted.root)
        check_gone(mounted.record)


def test_mounting_again_after_a_kill(mount: MountFactory, fusepkg: Fusepkg) -> None:
    """`mount` takes away what a killed process left at its directory and mounts there; `umount` ends it too."""
    with mount("small:v1") as mounted:
        os.kill(mounted.record.pid, signal.SIGKILL)
        assert ended(mounted.record.pid)
        with mount("small:v2") as again:
            assert (again / "README.md").read_text() == "# A later dataset\n"
            os.kill(again.record.pid, signal.SIGKILL)
            assert ended(again.record.pid)
            fusepkg("umount", again.root)
        assert mounts_below(mounted.root) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_signals_unmount(mount: MountFactory, number: signal.Signals) -> None:
    """SIGTERM and SIGINT to the daemon unmount and end it."""
    with mount("small:v1") as mounted:
        (mounted / "README.md").read_bytes()
        os.kill(mounted.record.pid, number)
        check_gone(mounted.record)


@pytest.mark.parametrize("way", ["SIGINT", "SIGTERM", "umount"])
def test_in_the_foreground(place: Place, engine: str, tmp_path: Path, originals: Originals, way: str) -> None:
    """`mount -f` stays until Ctrl-C, SIGTERM or umount, and then ends with 0."""
    root = tmp_path / "m"
    root.mkdir()
    command = [sys.executable, "-m", "fusepkg", "mount", "-f", "--engine", engine, place.reference("small:v1"), root]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"Mounted {place.reference('small:v1')}")
        record = records.find_record(root)[0]
        assert record.pid == process.pid
        assert (root / "run.sh").read_bytes() == (originals.small / "run.sh").read_bytes()
        if way == "umount":
            subprocess.run(["umount", root], check=True)
        else:
            process.send_signal(signal.Signals[way])
        _, said = process.communicate(timeout=30)
        assert process.returncode == 0, said
        assert "Traceback" not in said
        check_gone(record)
    finally:
        process.kill()
        process.communicate()
        end(root)
