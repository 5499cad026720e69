"""Mounts that outlive their process: what is killed, stopped or replaced under readers, and what these see of it."""

from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fusepkg.daemon import records, supervisor
from tests.command import run_fusepkg
from tests.mount.mounting import Mount, ended, forget_pages, mounted
from tests.mount.test_switching import switch, tree_of, wait_until
from tests.plugins.leftovers import mounts_below
from tests.proxy import Stall

if TYPE_CHECKING:
    from fusepkg.daemon.records import MountRecord
    from tests.command import Fusepkg
    from tests.mount.conftest import Originals
    from tests.mount.places import Bucket, Place

pytestmark = pytest.mark.fuse


@pytest.fixture
def local(folder: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The packages in a directory."""
    for name, value in folder.settings.items():
        monkeypatch.setenv(name, value)
    return folder


def record_of(mount: Mount) -> MountRecord:
    return records.find_record(mount.root)[0]


def replaced(mount: Mount, pid: int) -> MountRecord:
    """Wait for another process in the place of that one, and for its supervisor."""
    wait_until(lambda: record_of(mount).pid != pid, f"process {pid} is replaced")
    return record_of(mount)


def kill_worker(mount: Mount) -> MountRecord:
    pid = record_of(mount).pid
    os.kill(pid, signal.SIGKILL)
    return replaced(mount, pid)


def supervisor_of(record: MountRecord) -> int:
    assert record.supervisor is not None
    return record.supervisor


@pytest.mark.s3
def test_kill9_worker_mid_read(
    bucket: Bucket, engine: str, originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """With `--supervise`, kill -9 of the process in the middle of a read: the read gets its bytes from the next one.

    Handles, mappings, listings and directories that were open go on.
    """
    for name, value in bucket.settings.items():
        monkeypatch.setenv(name, value)
    bucket.proxy.heal()
    small = originals.small
    with mounted(bucket.reference("small:v1"), tmp_path / "m", engine, "--supervise") as mount:
        held = (mount / "large.bin").open("rb")
        assert held.read(10) == (small / "large.bin").read_bytes()[:10]
        mapped = mmap.mmap(held.fileno(), 0, access=mmap.ACCESS_READ)
        listed = os.scandir(mount.root)
        names = {next(listed).name}
        bucket.proxy.forget()
        bucket.proxy.fail(Stall(), operation="GetObject", times=None)
        try:
            with subprocess.Popen(["cat", mount / "run.sh"], stdout=subprocess.PIPE) as reader:
                bucket.proxy.wait_for(1, operation="GetObject")
                os.kill(mount.record.pid, signal.SIGKILL)
                bucket.proxy.heal()
                assert reader.communicate()[0] == (small / "run.sh").read_bytes()
                assert reader.returncode == 0
        finally:
            bucket.proxy.heal()
        assert record_of(mount).pid != mount.record.pid
        assert mapped[8_500_000:8_500_010] == (small / "large.bin").read_bytes()[8_500_000:8_500_010]
        names |= {entry.name for entry in listed}
        assert sorted(names) == sorted(os.listdir(small))
        mapped.close()
        held.close()
        listed.close()
        assert tree_of(mount.root) == tree_of(small)


def test_killed_after_a_switch(local: Place, engine: str, originals: Originals, tmp_path: Path, fusepkg: Fusepkg):
    """It may be killed after a switch: open files keep their version, others have the new one; `umount` ends all."""
    with mounted(local.reference("small:v1"), tmp_path / "m", engine, "--supervise") as mount:
        with (mount / "README.md").open("rb") as old:
            switch(mount, "v2")
            kill_worker(mount)
            os.posix_fadvise(old.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert old.read() == b"# A dataset\n"
            assert tree_of(mount.root) == tree_of(originals.later)
        record = record_of(mount)
        said = fusepkg("status", mount.root).stdout
        assert f"Supervised: by process {record.supervisor}, which replaces process {record.pid}" in said
        assert "mounted, supervised" in fusepkg("mounts").stdout
        fusepkg("umount", mount.root)
        assert ended(record.pid)
        assert ended(supervisor_of(record))
        assert mounts_below(mount.root) == []


def test_kill9_supervisor(local: Place, engine: str, originals: Originals, tmp_path: Path):
    """kill -9 of the supervisor: the mount goes on, starts another one by itself, and is safe as before."""
    with mounted(local.reference("small:v1"), tmp_path / "m", engine, "--supervise") as mount:
        first = supervisor_of(record_of(mount))
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: record_of(mount).supervisor not in (first, None), "there is another supervisor")
        assert record_of(mount).pid == mount.record.pid
        kill_worker(mount)
        assert tree_of(mount.root) == tree_of(originals.small)
        record = record_of(mount)
        os.kill(record.pid, signal.SIGTERM)
        assert ended(record.pid)
        assert ended(supervisor_of(record))
        assert mounts_below(mount.root) == []


def test_kill9_everything(local: Place, engine: str, originals: Originals, tmp_path: Path, fusepkg: Fusepkg):
    """kill -9 of all at once: readers get errors, never an empty directory; `mount` at that directory repairs it.

    With `--replace` it ends a mount that is alive, too.
    """
    with mounted(local.reference("small:v1"), tmp_path / "m", engine, "--supervise") as mount:
        record = record_of(mount)
        keeper = supervisor_of(record)
        os.kill(keeper, signal.SIGSTOP)
        os.kill(record.pid, signal.SIGKILL)
        os.kill(keeper, signal.SIGKILL)
        assert ended(record.pid)
        assert ended(keeper)
        with suppress(OSError):
            forget_pages(mount / "README.md")
        with pytest.raises(OSError):
            (mount / "train/class1/1.bin").read_bytes()
        with suppress(OSError):  # of erofs, the kernel knows the names
            assert os.listdir(mount.root) != []
        line = next(line for line in fusepkg("mounts").stdout.splitlines() if str(mount.root) in line)
        assert "dead" in line
        said = fusepkg("mount", "--engine", engine, local.reference("small:v2"), mount.root).stderr
        assert "what a killed process had left here was unmounted first" in said
        assert tree_of(mount.root) == tree_of(originals.later)
        assert "mounted already" in fusepkg("mount", local.reference("small:v1"), mount.root, check=False).stderr
        fusepkg("mount", "--engine", engine, "--replace", local.reference("small:v1"), mount.root)
        assert tree_of(mount.root) == tree_of(originals.small)


def children_of(pid: int) -> set[int]:
    return {int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def is_idle(pid: int) -> bool:
    """Whether a process waits, and has not worked for a while."""
    before = Path(f"/proc/{pid}/stat").read_text().split()[2:]
    time.sleep(0.3)
    return before == Path(f"/proc/{pid}/stat").read_text().split()[2:] and before[0] == "S"


def test_the_next_processes_are_forked_from_a_spare(local: Place, originals: Originals, tmp_path: Path):
    """After a death a spare process stays that has loaded all the code; each next process is a copy of it.

    So it is after kill -9 of the supervisor, too.
    """
    with mounted(local.reference("small:v1"), tmp_path / "m", "fuse", "--supervise") as mount:
        worker = kill_worker(mount)
        keeper = supervisor_of(worker)
        wait_until(lambda: len(children_of(keeper)) == 2, "there is a spare")
        (spare,) = children_of(keeper) - {worker.pid}
        wait_until(lambda: is_idle(spare), "the spare is ready")
        for _ in range(2):
            worker = kill_worker(mount)  # the kernel may leave out of the list who comes while another goes
            wait_until(lambda pid=worker.pid: children_of(keeper) == {spare, pid}, "the spare and its copy are all")
        os.kill(keeper, signal.SIGKILL)
        wait_until(lambda: record_of(mount).supervisor not in (keeper, None), "there is another supervisor")
        kill_worker(mount)
        assert children_of(supervisor_of(record_of(mount))) == set()  # it has started nothing by itself
        assert not is_over(spare)
        assert tree_of(mount.root) == tree_of(originals.small)


def is_over(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] in "ZX"
    except FileNotFoundError:
        return True


def kill_all_workers(mount: Mount, number: signal.Signals) -> int:
    """End each worker as soon as it is there, until the supervisor gives up; return how many there were."""
    keeper = supervisor_of(record_of(mount))
    children = Path(f"/proc/{keeper}/task/{keeper}/children")
    killed = {mount.record.pid}
    os.kill(mount.record.pid, number)
    deadline = time.monotonic() + 60
    with suppress(FileNotFoundError, ProcessLookupError):  # until it gives up
        while time.monotonic() < deadline:
            for pid in {int(word) for word in children.read_text().split()} - killed:
                killed.add(pid)
                os.kill(pid, number)
    assert ended(keeper)
    return len(killed)


CRASH_LOOPS = {
    signal.SIGSEGV: (supervisor.CRASHES + 1, "its process died 5 times within 30 s"),  # of the first it knows no cause
    signal.SIGKILL: (supervisor.UNSERVED + 1, "its process died 20 times before it had answered anything"),
}


@pytest.mark.parametrize("number", CRASH_LOOPS)
def test_a_crash_loop_ends_in_a_failed_mount(local: Place, number: signal.Signals, tmp_path: Path, fusepkg: Fusepkg):
    """A process that crashes 5 times in 30 s, or is killed 20 times before it answers anything, is not replaced.

    `mounts` says why, readers get errors, `umount` ends it.
    """
    deaths, reason = CRASH_LOOPS[number]
    with mounted(local.reference("small:v1"), tmp_path / "m", "fuse", "--supervise") as mount:
        assert kill_all_workers(mount, number) == deaths
        facts = next(
            one for one in json.loads(fusepkg("mounts", "--json").stdout) if one["mountpoint"] == str(mount.root)
        )
        assert not facts["alive"]
        assert facts["failure"] == reason
        assert f"failed, {reason}" in fusepkg("mounts").stdout
        with pytest.raises(OSError):
            (mount / "train/class1/1.bin").read_bytes()
        fusepkg("umount", mount.root)
        assert os.listdir(mount.root) == []


def test_restart_replaces_the_process(
    local: Place, engine: str, originals: Originals, tmp_path: Path, fusepkg: Fusepkg
):
    """`fusepkg restart DIR` puts a new process in the place of a mount's; files that are open are read on."""
    with mounted(local.reference("small:v1"), tmp_path / "m", engine) as mount:
        assert record_of(mount).supervisor is None
        with (mount / "large.bin").open("rb") as held:
            start = held.read(100)
            facts = json.loads(fusepkg("restart", mount.root, "--json").stdout)
            assert facts == [
                {"mountpoint": str(mount.root), "pid": record_of(mount).pid, "pid_before": mount.record.pid}
            ]
            assert ended(mount.record.pid)
            assert start + held.read() == (originals.small / "large.bin").read_bytes()
        assert record_of(mount).supervisor is not None
        assert tree_of(mount.root) == tree_of(originals.small)


def test_in_the_foreground(local: Place, originals: Originals, tmp_path: Path):
    """`mount -f --supervise` stays while processes are replaced, and ends with the mount; SIGTERM ends both."""
    root = tmp_path / "m"
    root.mkdir()
    command = [sys.executable, "-m", "fusepkg", "mount", "-f", "--supervise", "--engine", "fuse"]
    for end in (signal.SIGTERM, None):
        with subprocess.Popen([*command, local.reference("small:v1"), root], stdout=subprocess.PIPE) as stays:
            assert stays.stdout is not None
            try:
                assert stays.stdout.readline().startswith(b"Mounted ")
                kill_worker(Mount(root, records.find_record(root)[0]))
                assert tree_of(root) == tree_of(originals.small)
                assert stays.poll() is None
            finally:
                if end is None:
                    run_fusepkg("umount", root)
                else:
                    stays.send_signal(end)
            assert stays.wait() == 0
        assert mounts_below(root) == []


def test_restart_needs_a_directory(fusepkg: Fusepkg):
    """`restart` without a directory is refused."""
    assert fusepkg("restart", check=False).returncode == 2
