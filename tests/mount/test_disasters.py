"""What happens to a mount when the machine around it misbehaves; docs/design/disasters.md lists all disasters."""

from __future__ import annotations

import itertools
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fusepkg_cache import Cache

from bench import mount_times
from fusepkg.daemon import records
from fusepkg.daemon.ending import CHECK_DETACHED_S
from tests.command import run_fusepkg
from tests.mount.mounting import Mount, end, ended, files_below, mounted
from tests.mount.test_supervision import local, record_of
from tests.mount.test_switching import switch, tree_of, wait_until
from tests.plugins.leftovers import mounts_below
from tests.proxy import EXPIRED_TOKEN, SLOW_DOWN, Answer, Stall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.command import Fusepkg
    from tests.mount.conftest import Originals
    from tests.mount.places import Bucket, Place
    from tests.rgw import Gateway

pytestmark = pytest.mark.fuse

__all__ = ["local"]

HUGE = 20_000
"""Files in one directory."""

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


def point_at(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands find the bucket, and forget what was planned and seen there."""
    for name, value in bucket.settings.items():
        monkeypatch.setenv(name, value)
    bucket.proxy.heal()
    bucket.proxy.forget()


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


@dataclass(frozen=True, slots=True)
class KeysFile:
    """A file with credentials, which a mount reads."""

    path: Path

    def rotate(self, access_key: str, secret_key: str) -> None:
        """Put other credentials into it, and wait until it is read again."""
        draft = self.path.with_name("draft")
        draft.write_text(f"[default]\naws_access_key_id={access_key}\naws_secret_access_key={secret_key}\n")
        draft.rename(self.path)
        time.sleep(1.1)  # a file that had not changed is not read again for a second


@pytest.fixture
def keys(bucket: Bucket, rgw: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KeysFile]:
    """Credentials for the bucket, which is open to all, come from a file."""
    point_at(bucket, monkeypatch)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "keys"))
    everyone = {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::*"}
    rgw.s3.put_bucket_policy(Bucket=bucket.bucket, Policy=json.dumps({"Statement": [everyone]}))
    keys = KeysFile(tmp_path / "keys")
    keys.rotate(rgw.owner.access_key, rgw.owner.secret_key)
    yield keys
    bucket.proxy.heal()
    rgw.s3.delete_bucket_policy(Bucket=bucket.bucket)


def refuse(bucket: Bucket, access_key: str) -> None:
    """Let the bucket refuse credentials from now on."""
    bucket.proxy.fail(EXPIRED_TOKEN, when=lambda one: access_key in one.headers.get("authorization", ""), times=None)


@pytest.mark.s3
def test_credentials_expire_mid_epoch(
    keys: KeysFile, bucket: Bucket, rgw: Gateway, originals: Originals, tmp_path: Path
) -> None:
    """Credentials that end make reads fail with EACCES; once others are in their file, reads go on with these."""
    second = rgw.user()
    with mounted(bucket.reference("small:v1"), tmp_path / "m", "fuse") as mount:
        (mount / "README.md").read_bytes()
        refuse(bucket, rgw.owner.access_key)
        with pytest.raises(PermissionError):
            (mount / "run.sh").read_bytes()
        keys.rotate(second.access_key, second.secret_key)
        assert tree_of(mount.root) == tree_of(originals.small)


@pytest.mark.s3
def test_rotated_keys_file(keys: KeysFile, bucket: Bucket, rgw: Gateway, originals: Originals, tmp_path: Path) -> None:
    """If other credentials are in their file before the old ones end, no read fails."""
    second = rgw.user()
    with mounted(bucket.reference("small:v1"), tmp_path / "m", "fuse") as mount:
        (mount / "README.md").read_bytes()
        keys.rotate(second.access_key, second.secret_key)
        refuse(bucket, rgw.owner.access_key)
        assert tree_of(mount.root) == tree_of(originals.small)
        assert mount.counters["failed_fetches"] == 0


@pytest.mark.s3
def test_throttled_half(bucket: Bucket, originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket that throttles every second answer: programs get their bytes, later."""
    point_at(bucket, monkeypatch)
    turns = itertools.count()
    throttled = bucket.proxy.fail(SLOW_DOWN, when=lambda _: next(turns) % 2 == 0, times=None)
    try:
        with mounted(bucket.reference("small:v1"), tmp_path / "m", "fuse") as mount:
            assert tree_of(mount.root) == tree_of(originals.small)
    finally:
        bucket.proxy.heal()
    assert throttled.hits > 3


@pytest.mark.s3
def test_wrong_region(bucket: Bucket, originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket that is in another region than the settings say is asked there, once it has told where it is."""
    point_at(bucket, monkeypatch)
    there = "eu-central-9"
    header = (("x-amz-bucket-region", there),)  # which no server here sends
    bucket.proxy.fail(Answer(403, "AccessDenied", headers=header), operation="HeadBucket", times=None)
    told = f"wrong region</Message><Region>{there}</Region><Message>"
    elsewhere = Answer(400, "AuthorizationHeaderMalformed", told, header)
    refused = bucket.proxy.fail(
        elsewhere, when=lambda one: f"/{there}/s3/" not in one.headers.get("authorization", ""), times=None
    )
    try:
        with mounted(bucket.reference("small:v1"), tmp_path / "m", "fuse") as mount:
            assert tree_of(mount.root) == tree_of(originals.small)
    finally:
        bucket.proxy.heal()
    assert 0 < refused.hits < 10


@pytest.mark.s3
def test_kill9_fetcher(bucket: Bucket, originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9 of the process that fetches in the middle of it: another mount that waits for these bytes fetches them.

    The reader of the killed mount, which nobody supervises, gets an error.
    """
    point_at(bucket, monkeypatch)
    package = bucket.reference("small:v1")
    with mounted(package, tmp_path / "a", "fuse") as first, mounted(package, tmp_path / "b", "fuse") as second:
        bucket.proxy.forget()
        stalled = bucket.proxy.fail(Stall(), operation="GetObject", times=1)
        try:
            with (
                subprocess.Popen(["cat", first / "run.sh"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as failing,
                ExitStack() as until_end,
            ):
                wait_until(lambda: stalled.hits == 1, "the first mount fetches")
                waiting = until_end.enter_context(subprocess.Popen(["cat", second / "run.sh"], stdout=subprocess.PIPE))
                wait_until(lambda: second.counters["cache_misses"] > 0, "the second one waits for it")
                os.kill(first.record.pid, signal.SIGKILL)
                assert waiting.communicate()[0] == (originals.small / "run.sh").read_bytes()
                assert b"cat: " in failing.communicate()[1]
        finally:
            bucket.proxy.heal()


def test_deep_tree(monkeypatch: pytest.MonkeyPatch, engine: str, tmp_path: Path) -> None:
    """A file 400 directories deep is read, and found by a walk."""
    folder = tmp_path / "folder"
    bottom = Path(*["d"] * 400, "bottom")
    (folder / bottom).parent.mkdir(parents=True)
    (folder / bottom).write_text("here")
    monkeypatch.setenv("FUSEPKG_DATA_DIR", str(tmp_path / "data"))
    run_fusepkg("push", folder, "local/deep:v1")
    with mounted("local/deep:v1", tmp_path / "m", engine) as mount:
        assert (mount / str(bottom)).read_text() == "here"
        assert files_below(mount.root) == [str(bottom)]


def test_huge_directory(monkeypatch: pytest.MonkeyPatch, engine: str, tmp_path: Path) -> None:
    """A directory of 20,000 files is listed in whole, and each of them is found."""
    monkeypatch.setenv("FUSEPKG_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr("bench.manifests.FILES_PER_DIRECTORY", HUGE)
    mount_times.publish_synthetic(tmp_path / "data", HUGE, tmp_path)
    with mounted(f"local/{mount_times.NAME}:{mount_times.TAG}", tmp_path / "m", engine) as mount:
        names = os.listdir(mount / "d00000")
        assert len(names) == len(set(names)) == HUGE
        assert all(os.lstat(mount / "d00000" / name).st_size for name in names[::100])
        assert not (mount / "d00000" / "image_none.jpg").exists()


def read_side_by_side(local: Place, originals: Originals, tmp_path: Path, number: int) -> None:
    """Have so many mounts at a time, read each, and see all end."""
    roots = [tmp_path / f"m{one}" for one in range(number)]
    expected = tree_of(originals.small)
    with ExitStack() as until_end:
        for root in roots:
            until_end.enter_context(mounted(local.reference("small:v1"), root, "fuse"))
        for root in roots:
            assert tree_of(root) == expected
    assert mounts_below(tmp_path) == []


def test_a_dozen_mounts(local: Place, originals: Originals, tmp_path: Path) -> None:
    """A dozen mounts at a time read side by side, and all end."""
    read_side_by_side(local, originals, tmp_path, 12)


@pytest.mark.stress
def test_hundred_mounts(local: Place, originals: Originals, tmp_path: Path) -> None:
    """A hundred mounts at a time read side by side, and all end."""
    read_side_by_side(local, originals, tmp_path, 100)
