"""The process behind a mount: whom it ends with, what cannot hold it up, what it needs of the disk, what it tells."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fusepkg.daemon import records
from fusepkg.daemon.unmount import END_TIMEOUT_S
from tests.mount.mounting import POLL_S, end, ended, forget_pages, mounted
from tests.mount.places import Bucket
from tests.plugins.leftovers import mounts_below
from tests.proxy import Stall
from tests.unit.cli.test_start_up import HEAVY, loaded_by

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.command import Fusepkg
    from tests.mount.conftest import Originals
    from tests.mount.mounting import Mount
    from tests.mount.places import Place

    MountFactory = Callable[..., AbstractContextManager[Mount]]

pytestmark = pytest.mark.fuse

ROOT = Path(__file__).parents[2]

LOG_TIMEOUT_S = 10.0
"""Until a line is in a log: it takes milliseconds."""


@pytest.fixture
def local(folder: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The packages in a directory."""
    for name, value in folder.settings.items():
        monkeypatch.setenv(name, value)
    return folder


PROGRAM = """
import os, sys
from fusepkg import Package
with Package(sys.argv[1]).mount(engine=sys.argv[2]) as directory:
    if sys.argv[3] == "fork" and os.fork() == 0:
        os.read(0, 1)  # a worker that outlives the program
        os._exit(0)
    if sys.argv[3] == "leave" and os.fork() == 0:
        sys.exit()  # a worker that leaves the block
    if sys.argv[3] == "leave":
        os.wait()
    print(directory, flush=True)
    os.read(0, 1)
"""


@pytest.mark.parametrize(
    ("number", "forks"), [(signal.SIGTERM, "no"), (signal.SIGKILL, "no"), (signal.SIGKILL, "fork")], ids=str
)
def test_a_mount_in_a_block_ends_with_its_program(local: Place, engine: str, number: int, forks: str):
    """`with package.mount()` ends with its program, by whatever signal, and its directory goes."""
    command = [sys.executable, "-c", PROGRAM, local.reference("small:v1"), engine, forks]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        directory = Path(program.stdout.readline().strip())
        record, _ = records.find_record(directory)
        try:
            program.send_signal(number)
            assert ended(record.pid)
            assert mounts_below(directory) == []
            assert not directory.parent.exists()
        finally:
            end(directory)


def test_a_fork_that_leaves_the_block_ends_nothing(local: Place, engine: str):
    """A fork of that program may leave the block: the mount ends with the program that made it."""
    command = [sys.executable, "-c", PROGRAM, local.reference("small:v1"), engine, "leave"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        directory = Path(program.stdout.readline().strip())
        record, _ = records.find_record(directory)
        assert (directory / "README.md").read_text() == "# A dataset\n"
        program.communicate("x")
        assert program.returncode == 0
        assert ended(record.pid)
        assert not directory.parent.exists()


def test_session_aborted(local: Place, engine: str, tmp_path: Path):
    """A session that the kernel aborts leaves errors to readers, not an empty directory."""
    control = tmp_path / "fusectl"
    control.mkdir()
    subprocess.run(["mount", "-t", "fusectl", "none", control], check=True)
    try:
        with mounted(local.reference("small:v1"), tmp_path / "m", engine) as mount:
            (control / fuse_session(mount.record.pid) / "abort").write_text("1")
            assert ended(mount.record.pid)
            assert mounts_below(mount.root) != []
            with pytest.raises(OSError, match=r"Transport endpoint|Input/output"):
                (mount / "README.md").read_bytes()
            subprocess.run(["umount", "-l", mount.root], check=True)
    finally:
        subprocess.run(["umount", "-l", control], check=True)


def fuse_session(pid: int) -> str:
    """The kernel's number of the FUSE session that a process serves: other tests make and end sessions meanwhile."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        if descriptor.readlink() == Path("/dev/fuse"):
            lines = Path(f"/proc/{pid}/fdinfo/{descriptor.name}").read_text().splitlines()
            (number,) = [line.split()[1] for line in lines if line.startswith("fuse_connection:")]
            return number
    raise AssertionError(f"process {pid} has no /dev/fuse open")


@pytest.mark.s3
@pytest.mark.parametrize("way", ["umount", "SIGTERM"])
def test_a_request_that_hangs_holds_up_no_end(
    bucket: Bucket, engine: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """umount and SIGTERM end the process within 10 s, also while a request to the bucket hangs."""
    for name, value in bucket.settings.items():
        monkeypatch.setenv(name, value)
    bucket.proxy.heal()
    with mounted(bucket.reference("small:v1"), tmp_path / "m", engine) as mount:
        bucket.proxy.forget()
        bucket.proxy.fail(Stall(), operation="GetObject", times=None)
        try:
            with subprocess.Popen(["cat", mount / "README.md"], stderr=subprocess.DEVNULL) as reader:
                while not bucket.proxy.requests:
                    time.sleep(POLL_S)
                if way == "umount":
                    subprocess.run(["umount", "-l", mount.root], check=True)
                    reader.kill()  # who has a file open holds the mount
                else:
                    os.kill(mount.record.pid, signal.SIGTERM)
                assert ended(mount.record.pid), f"still there after {END_TIMEOUT_S} s"
                reader.kill()
        finally:
            bucket.proxy.heal()
    assert mount.record.mount_id not in [record.mount_id for record in records.read_records()]


@pytest.mark.s3
def test_stalled_socket(bucket: Bucket, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Requests that hang hold up no read that the cache can answer.

    Nor in the kernel, which by default lets 12 background reads wait, and counts all reads of EROFS as such.
    """
    for name, value in bucket.settings.items():
        monkeypatch.setenv(name, value)
    bucket.proxy.heal()
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(20):
        (folder / f"hangs{number}").write_bytes(b"%d" % number * 150_000)
    (folder / "cached").write_bytes(bytes(300_000))
    with mounted(bucket.publish(folder, "hangs:v1"), tmp_path / "m", engine) as mount:
        assert (mount / "cached").read_bytes() == bytes(300_000)
        mount.wait_until_kept("cached", wholly=True)
        forget_pages(mount / "cached")
        bucket.proxy.forget()
        bucket.proxy.fail(Stall(), operation="GetObject", times=None)
        try:
            hanging = [mount / f"hangs{number}" for number in range(20)]
            with subprocess.Popen(
                ["sh", "-c", 'for f; do head -c 1 "$f" >/dev/null & done; wait', "sh", *hanging]
            ) as readers:
                bucket.proxy.wait_for(20, operation="GetObject")
                assert (mount / "cached").read_bytes() == bytes(300_000)
                bucket.proxy.heal()
                assert readers.wait() == 0
        finally:
            bucket.proxy.heal()


def test_an_upgrade_under_a_mount_breaks_no_read(
    local: Place, originals: Originals, engine: str, tmp_path: Path, fusepkg: Fusepkg
):
    """An upgrade of fusepkg under a live mount breaks no read, `status` or `umount` of it."""
    """All modules are loaded before the mount is usable: a later one could be another version's, or gone."""
    old = tmp_path / "old"
    for package in ("fusepkg", "cache/fusepkg_cache"):
        shutil.copytree(ROOT / package, old / Path(package).name, ignore=shutil.ignore_patterns("__pycache__"))
    root = tmp_path / "m"
    root.mkdir()
    program = f"import sys; sys.path.insert(0, {str(old)!r}); from fusepkg.cli.main import main; main()"
    command = [sys.executable, "-c", program, "mount", "--engine", engine, local.reference("small:v1"), root]
    try:
        subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
        record, _ = records.find_record(root)
        shutil.rmtree(old)
        for name in ("README.md", "run.sh"):
            assert (root / name).read_bytes() == (originals.small / name).read_bytes()
        forget_pages(root / "README.md")
        assert (root / "README.md").read_bytes() == (originals.small / "README.md").read_bytes()
        assert json.loads(fusepkg("status", root, "--json").stdout)["pid"] == record.pid
        assert fusepkg("stat", root / "README.md").returncode == 0
        fusepkg("umount", root)
        assert ended(record.pid)
        assert "Error" not in Path(record.log).read_text()
    finally:
        end(root)


def test_sigusr1_prints_stacks_and_tasks_into_the_log(local: Place, engine: str, tmp_path: Path):
    """SIGUSR1 prints the daemon's stacks and tasks into its log."""
    with mounted(local.reference("small:v1"), tmp_path / "m", engine) as mount:
        os.kill(mount.record.pid, signal.SIGUSR1)
        deadline = time.monotonic() + LOG_TIMEOUT_S
        while "serve_control" not in mount.log().partition("tasks:")[2]:
            assert time.monotonic() < deadline, mount.log()
            time.sleep(POLL_S)
        assert "Current thread" in mount.log()
        assert (mount / "README.md").read_text() == "# A dataset\n"


def test_a_mount_without_a_record_is_listed_and_can_be_ended(
    local: Place, engine: str, tmp_path: Path, fusepkg: Fusepkg
):
    """A mount whose record is lost is listed by `mounts`, told by `status`, and ended by `umount`."""
    with mounted(local.reference("small:v1"), tmp_path / "m", engine) as mount:
        records.remove_record(mount.record.mount_id)
        listed = [one for one in json.loads(fusepkg("mounts", "--json").stdout) if one["mountpoint"] == str(mount.root)]
        assert [(one["engine"], one["alive"]) for one in listed] == [(engine, False)]
        said = fusepkg("status", mount.root / "train").stdout
        assert "small" in said
        assert f"Mounted: {mount.root}, {engine} engine\nNo record:" in said
        assert json.loads(fusepkg("status", mount.root, "--json").stdout) == listed[0]
        refused = fusepkg("stat", mount.root / "README.md", check=False)
        assert refused.returncode == 12
        assert "without a record" in refused.stderr
        fusepkg("umount", mount.root)
        assert ended(mount.record.pid)


def test_status_of_a_mount_loads_nothing_that_fetches_or_serves(local: Place, tmp_path: Path):
    """`status DIR` loads neither S3 clients nor what serves a mount."""
    with mounted(local.reference("small:v1"), tmp_path / "m", "fuse") as mount:
        for arguments in (("status", str(mount.root)), ("stat", str(mount / "README.md"))):
            assert not loaded_by(*arguments) & HEAVY
