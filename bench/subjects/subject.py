"""The form of a subject."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.failed import SubjectFailed

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

MOUNT_TIMEOUT_S = 60.0
"""Until a mount is there; on a busy machine all are within seconds."""

_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Opened:
    """A subject in use: its directory, the processes that serve it at the moment, and the seconds its command took."""

    directory: Path
    processes: Callable[[], list[int]] = field(default=list)
    mount_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that gives a directory. ``open(place)`` serves it, with cold caches of its own, until the block ends.

    ``place`` is an empty directory for its mountpoint and caches. ``why_not`` says why it cannot run here, or is empty.
    The first word of ``name`` is its family (``rclone off``, ``rclone full``): the best of a family is the one to beat.
    """

    name: str
    open: Callable[[Path], AbstractContextManager[Opened]]
    why_not: str = ""


def is_mounted(directory: Path) -> bool:
    """Whether the kernel's table has a mount exactly there; nothing is asked of the mount."""
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    return any(line.split()[4] == str(directory) for line in lines)


def wait_for_mount(directory: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a program has mounted a directory. Raises SubjectFailed where it ends, or takes too long."""
    deadline = time.monotonic() + MOUNT_TIMEOUT_S
    while not is_mounted(directory):
        if process.poll() is not None or time.monotonic() > deadline:
            raise SubjectFailed(f"no mount at {directory}: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(_POLL_S)


def unmount(directory: Path) -> None:
    """Take a mount away, at once, whoever made it and whatever still uses it; does nothing where none is."""
    while is_mounted(directory):
        helper = shutil.which("umount") or "umount"
        done = subprocess.run([helper, "-l", str(directory)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            helper = shutil.which("fusermount3") or "fusermount3"
            subprocess.run([helper, "-uz", str(directory)], capture_output=True, check=True)
