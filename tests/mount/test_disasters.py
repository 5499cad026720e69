"""What happens to a mount when the machine around it misbehaves; docs/design/disasters.md lists all disasters."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fusepkg_cache import Cache

from fusepkg.daemon import records
from fusepkg.daemon.ending import CHECK_DETACHED_S
from tests.mount.mounting import Mount, end, ended, mounted
from tests.mount.test_supervision import local, record_of
from tests.mount.test_switching import switch, tree_of, wait_until
from tests.plugins.leftovers import mounts_below
from tests.proxy import EXPIRED_TOKEN, Stall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.command import Fusepkg
    from tests.mount.conftest import Originals
    from tests.mount.places import Bucket, Place
    from tests.rgw import Gateway

pytestmark = pytest.mark.fuse

__all__ = ["local"]

MEMORY_CGROUP = Path("/sys/fs/cgroup/memory")

ANOTHER_CLOCK = """
import os, time
_true = time.time
def _moved():
    with open(os.environ["TEST_CLOCK"]) as file:
        return _true() + float(file.read())
time.time = _moved
"""


def test_sigstop_daemon(local: Place, originals: Originals, tmp_path: Path, fusepkg: Fusepkg) -> None:
    """A process that is stopped holds up its readers until it goes on; `mounts` does not wait for it."""
    with mounted(local.reference("small:v1"), tmp_path / "m", "fuse") as mount:
        os.kill(mount.record.pid, signal.SIGSTOP)
        try:
            with subprocess.Popen(["cat", mount / "run.sh"], stdout=subprocess.PIPE) as reader:
                assert str(mount.root) in fusepkg("mounts").stdout
                assert reader.poll() is None
                os.kill(mount.record.pid, signal.SIGCONT)
                assert reader.communicate()[0] == (originals.small / "run.sh").read_bytes()
        finally:
            os.kill(mount.record.pid, signal.SIGCONT)


@pytest.mark.s3
def test_sigterm_mid_prefetch(
    bucket: Bucket, originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM in the middle of a prefetch ends the process; the cache is sound, and the next mount goes on from it."""
    for name, value in bucket.settings.items():
        monkeypatch.setenv(name, value)
    bucket.proxy.heal()
    bucket.proxy.forget()
    stalled = bucket.proxy.fail(Stall(), key="small/large.bin", times=None)
    with mounted(bucket.reference("small:v1"), tmp_path / "m", "fuse", "--prefetch", "all") as mount:
        wait_until(lambda: stalled.hits > 0, "the prefetch has come to the large file")
        os.kill(mount.record.pid, signal.SIGTERM)
        assert ended(mount.record.pid)
    bucket.proxy.heal()
    with Cache(Path(os.environ["FUSEPKG_CACHE_DIR"], "blobs")) as cache:
        assert cache.verify().damaged == ()
    with mounted(bucket.reference("small:v1"), tmp_path / "m", "fuse", "--prefetch", "all") as mount:
        assert tree_of(mount.root) == tree_of(originals.small)


def test_clock_jump(local: Place, originals: Originals, tmp_path: Path) -> None:
    """The clock may jump by years, forth and back: reads, claims and switches go on."""
    (tmp_path / "sitecustomize.py").write_text(ANOTHER_CLOCK)
    clock = tmp_path / "clock"
    clock.write_text("0")
    root = tmp_path / "m"
    root.mkdir()
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "TEST_CLOCK": str(clock)}
    command = [sys.executable, "-m", "fusepkg", "mount", "--engine", "fuse", local.reference("small:v1"), root]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    try:
        mount = Mount(root, records.find_record(root)[0])
        for years, version, expected in ((3, "v2", originals.later), (-5, "v1", originals.small)):
            new = tmp_path / "new"
            new.write_text(str(years * 365 * 86400))
            new.rename(clock)
            assert (mount / "run.sh").read_bytes() == (originals.small / "run.sh").read_bytes()
            switch(mount, version)
            assert tree_of(root) == tree_of(expected)
        assert mount.counters["failed_fetches"] == 0
    finally:
        end(root)


def test_out_of_descriptors(local: Place, originals: Originals, tmp_path: Path) -> None:
    """Without free descriptors, reads give right bytes or an error; with some again, all is read."""
    with mounted(local.reference("small:v1"), tmp_path / "m", "fuse") as mount:
        before = resource.prlimit(mount.record.pid, resource.RLIMIT_NOFILE)
        open_now = len(os.listdir(f"/proc/{mount.record.pid}/fd"))
        resource.prlimit(mount.record.pid, resource.RLIMIT_NOFILE, (open_now, before[1]))
        for name in ("run.sh", "large.bin", "train/class1/1.bin"):
            with suppress(OSError):
                assert (mount / name).read_bytes() == (originals.small / name).read_bytes()
        time.sleep(CHECK_DETACHED_S + 0.5)  # it looks for itself meanwhile
        resource.prlimit(mount.record.pid, resource.RLIMIT_NOFILE, before)
        assert tree_of(mount.root) == tree_of(originals.small)
        assert record_of(mount).pid == mount.record.pid


@contextmanager
def tiny_memory(pid: int) -> Iterator[None]:
    """A control group for one process, which may take next to nothing from now on."""
    group = MEMORY_CGROUP / f"fusepkg-{pid}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(2 << 20))
        (group / "cgroup.procs").write_text(str(pid))
    except OSError as exc:
        pytest.skip(f"no control group for memory can be made here: {exc}")
    try:
        yield
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text(), "the kernel has ended the process")
        group.rmdir()


def test_oom_kill(local: Place, originals: Originals, tmp_path: Path) -> None:
    """A supervised process that the kernel kills for want of memory is replaced; its reader gets the bytes."""
    with mounted(local.reference("small:v1"), tmp_path / "m", "fuse", "--supervise") as mount:
        with tiny_memory(mount.record.pid):
            assert (mount / "large.bin").read_bytes() == (originals.small / "large.bin").read_bytes()
        assert record_of(mount).pid != mount.record.pid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a tmpfs")
def test_mount_over_mount(local: Place, originals: Originals, tmp_path: Path, fusepkg: Fusepkg) -> None:
    """What is mounted over a mount hides it: a switch is refused until that is gone, and nothing of it is touched."""
    with mounted(local.reference("small:v1"), tmp_path / "m", "fuse") as mount:
        subprocess.run(["mount", "-t", "tmpfs", "none", mount.root], check=True)
        try:
            (mount / "theirs").write_text("kept")
            said = fusepkg("switch", mount.root, "v2", check=False)
            assert "something else is mounted over" in said.stderr
            assert "not of fusepkg" in fusepkg("umount", mount.root, check=False).stderr
            assert (mount / "theirs").read_text() == "kept"
        finally:
            subprocess.run(["umount", mount.root], check=True)
        switch(mount, "v2")
        assert tree_of(mount.root) == tree_of(originals.later)


def test_reboot_leftovers(local: Place, tmp_path: Path, fusepkg: Fusepkg) -> None:
    """Records, sockets and locks of before a reboot, whose numbers are others' now, hinder nothing and are removed."""
    root = tmp_path / "m"
    with mounted(local.reference("small:v1"), root, "fuse") as mount:
        record = records.record_path(mount.record.mount_id)
        shutil.copy(record, tmp_path / "record")
    facts = json.loads((tmp_path / "record").read_text())
    record.write_text(json.dumps(facts | {"pid": os.getpid()}))
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(facts["socket"])
    (record.parent / "0123456789abcdef.lock").touch()
    assert str(root) not in fusepkg("mounts").stdout
    assert not record.exists()
    record.write_text(json.dumps(facts | {"pid": os.getpid()}))
    with mounted(local.reference("small:v2"), root, "fuse") as mount:
        assert (mount / "README.md").read_text() == "# A later dataset\n"
    assert not record.exists()


@pytest.mark.s3
def test_credentials_expire_mid_epoch(
    bucket: Bucket, rgw: Gateway, originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials that end make reads fail with EACCES; once others are in their file, reads go on with these."""
    for name, value in bucket.settings.items():
        monkeypatch.setenv(name, value)
    bucket.proxy.heal()
    everyone = {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::*"}
    rgw.s3.put_bucket_policy(Bucket=bucket.bucket, Policy=json.dumps({"Statement": [everyone]}))
    keys = tmp_path / "keys"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))

    def rotate(access_key: str, secret_key: str) -> None:
        draft = tmp_path / "draft"
        draft.write_text(f"[default]\naws_access_key_id={access_key}\naws_secret_access_key={secret_key}\n")
        draft.rename(keys)

    first, second = rgw.owner, rgw.user()
    rotate(first.access_key, first.secret_key)
    try:
        with mounted(bucket.reference("small:v1"), tmp_path / "m", "fuse") as mount:
            (mount / "README.md").read_bytes()
            bucket.proxy.fail(
                EXPIRED_TOKEN, when=lambda one: first.access_key in one.headers.get("authorization", ""), times=None
            )
            with pytest.raises(PermissionError):
                (mount / "run.sh").read_bytes()
            rotate(second.access_key, second.secret_key)
            time.sleep(1.1)  # a file that had not changed is not read again for a second
            assert tree_of(mount.root) == tree_of(originals.small)
    finally:
        bucket.proxy.heal()
        rgw.s3.delete_bucket_policy(Bucket=bucket.bucket)


@pytest.mark.stress
def test_hundred_mounts(local: Place, originals: Originals, tmp_path: Path) -> None:
    """A hundred mounts at a time read side by side, and all end."""
    roots = [tmp_path / f"m{number}" for number in range(100)]
    expected = tree_of(originals.small)
    try:
        for root in roots:
            root.mkdir()
            run = [sys.executable, "-m", "fusepkg", "mount", "--engine", "fuse", local.reference("small:v1"), root]
            subprocess.run(run, check=True, capture_output=True)
        for root in roots:
            assert tree_of(root) == expected
    finally:
        for root in roots:
            end(root)
    assert mounts_below(tmp_path) == []
