"""rclone mount, of a local folder or of a bucket, with its VFS cache off or full.

It gets the options that help it most with data that never change, and its own cache where it has one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.memory import own_process
from bench.subjects.subject import Opened, Subject, unmount, wait_for_mount

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

COMMAND = str(Path(sys.executable).with_name("rclone"))
MODES = ("off", "full")
END_TIMEOUT_S = 20.0
"""rclone ends at once when its mount is gone."""

OPTIONS = ("--read-only", "--dir-cache-time=24h", "--attr-timeout=24h", "--poll-interval=0", "--no-checksum")


def why_not() -> str:
    """Why rclone cannot run here; empty where it can."""
    return "" if shutil.which(COMMAND) else "rclone is not installed: scripts/setup.sh bench"


def version() -> str:
    """The version's line of ``rclone version``."""
    if why_not():
        return "none"
    done = subprocess.run([COMMAND, "version"], capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0]


def rclone(mode: str, source: str, settings: Mapping[str, str], *options: str) -> Subject:
    """``source`` as rclone names it, mounted; ``settings`` are added to its environment."""

    @contextmanager
    def give(place: Path) -> Iterator[Opened]:
        mountpoint, log = place / "mount", place / "rclone.log"
        mountpoint.mkdir()
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "TMPDIR")}
        command = [
            COMMAND, "mount", source, str(mountpoint), "--config", str(place / "rclone.conf"),
            "--cache-dir", str(place / "cache"), "--vfs-cache-mode", mode, *OPTIONS, *options,
        ]  # fmt: skip
        (place / "rclone.conf").touch()
        with log.open("wb") as said:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                env={**kept, "HOME": str(place), **settings}, start_new_session=True,
            )  # fmt: skip
        try:
            wait_for_mount(mountpoint, process, log)
            yield Opened(mountpoint, own_process(process.pid))
        finally:
            unmount(mountpoint)
            try:
                process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    return Subject(f"rclone {mode}", give, why_not())
