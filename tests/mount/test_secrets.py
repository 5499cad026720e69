"""Where the keys of a bucket are not to be found, and what nobody gets by a mount."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fusepkg.daemon import records, supervisor
from fusepkg.engines.privileges import KEPT
from tests.mount.mounting import ended, mounted
from tests.mount.test_ordinary_users import USER_ID
from tests.mount.test_supervision import local
from tests.mount.test_switching import switch, wait_until

if TYPE_CHECKING:
    from tests.command import Fusepkg
    from tests.mount.places import Bucket, Place
    from tests.rgw import Gateway

pytestmark = pytest.mark.fuse

__all__ = ["local"]

PR_GET_DUMPABLE = 3


@pytest.mark.s3
def test_secrets_are_written_nowhere(
    bucket: Bucket, rgw: Gateway, fusepkg: Fusepkg, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are in no log (not even with `--debug`), record, status, metric, attribute, title of a process, or cache."""
    for name, value in bucket.settings.items():
        monkeypatch.setenv(name, value)
    bucket.proxy.heal()
    secret = rgw.owner.secret_key
    with mounted(bucket.reference("small:v1"), tmp_path / "m", "fuse", "--debug", "--supervise", "--xattrs") as mount:
        (mount / "README.md").read_bytes()
        record, _ = records.find_record(mount.root)
        said = [
            fusepkg(*words).stdout
            for words in (("status", mount.root, "--json"), ("mounts", "--json"), ("metrics",), ("doctor",))
        ]
        titles = [Path(f"/proc/{pid}/cmdline").read_text() for pid in (record.pid, record.supervisor)]
        facts = [os.getxattr(mount / "README.md", name) for name in ("user.fusepkg.hash", "user.fusepkg.physical_key")]
        # Root's records are one directory, where other mounts come and go.
        recorded = records.record_path(record.mount_id)
        written = [path for path in (*home.rglob("*"), *recorded.parent.glob(f"{recorded.stem}*")) if path.is_file()]
        assert recorded in written
        assert Path(record.log) in written
        assert [path for path in written if secret.encode() in path.read_bytes()] == []
        assert secret not in "".join((*said, *titles, *map(os.fsdecode, facts)))


def test_nobody_looks_into_the_process() -> None:
    """The process of a mount leaves no core, and other programs of its user cannot look into its memory."""
    program = (
        "import ctypes; from fusepkg.engines.kernel import keep_memory_private; keep_memory_private(); "
        f"raise SystemExit(ctypes.CDLL(None).prctl({PR_GET_DUMPABLE}))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
def test_nobody_looks_into_the_supervisor() -> None:
    """The supervisor, which has the keys of the environment too, leaves no core either: its files in /proc are root's,
    though it is another user's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    user = ["setpriv", f"--reuid={USER_ID}", f"--regid={USER_ID}", "--clear-groups"]
    if subprocess.run([*user, sys.executable, "-c", "import json"], capture_output=True, check=False).returncode:
        pytest.skip("an ordinary user cannot run this Python")
    command = [*user, sys.executable, "-I", "-S", supervisor.__file__, str(theirs.fileno())]
    with ours, theirs, subprocess.Popen(command, pass_fds=[theirs.fileno()]) as process:
        place = Path(f"/proc/{process.pid}")
        python = Path(sys.executable).resolve()
        wait_until(lambda: (place / "exe").readlink() == python, "it runs")
        wait_until(lambda: (place / "environ").stat().st_uid == 0, "nobody but root may read its environment")
        assert f"\nUid:\t{USER_ID}" in (place / "status").read_text()
        process.terminate()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to give up")
def test_capabilities_are_given_up(local: Place, engine: str, tmp_path: Path) -> None:
    """Root's process of a mount, and what it starts, has only those capabilities that mounts and key files need."""
    most = sum(1 << number for number in KEPT.values())
    with mounted(local.reference("small:v1"), tmp_path / "m", engine, "--supervise") as mount:
        for pid in (mount.record.pid, mount.record.supervisor):
            status = Path(f"/proc/{pid}/status").read_text()
            sets = {name: int(value, 16) for name, value in re.findall(r"^(Cap\w+):\t(\w+)$", status, re.MULTILINE)}
            assert {name: bits & ~most for name, bits in sets.items()} == dict.fromkeys(sets, 0)
            assert sets["CapEff"] >> KEPT["CAP_SYS_ADMIN"] & 1
            assert "NoNewPrivs:\t1" in status
        switch(mount, "v2")  # it mounts
        subprocess.run(["umount", mount.root], check=True)
        assert ended(mount.record.pid)


def test_no_program_of_a_mount_gets_other_rights(local: Place, engine: str, tmp_path: Path) -> None:
    """Every mount is read-only, nosuid and nodev."""
    with mounted(local.reference("small:v1"), tmp_path / "m", engine) as mount:
        (line,) = [line for line in Path("/proc/self/mounts").read_text().splitlines() if f" {mount.root} " in line]
        assert {"ro", "nosuid", "nodev"} <= set(line.split()[3].split(","))
