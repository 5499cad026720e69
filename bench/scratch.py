"""The run's own directory, in which everything is made, and how it is cleared away."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.subjects.subject import unmount

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = "fusepkg-bench-"
_LOCK = "running"


@contextmanager
def scratch_directory(parent: Path) -> Iterator[Path]:
    """A fresh directory, cleared away at the end; those that killed runs left are cleared away first."""
    for left in parent.glob(f"{_PREFIX}*"):
        if _is_left(left):
            clear_away(left)
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    lock = os.open(directory / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield directory
    finally:
        clear_away(directory)
        os.close(lock)


def clear_away(directory: Path) -> None:
    """Unmount whatever is mounted below a directory, then remove it."""
    for mountpoint in mounts_below(directory):
        unmount(mountpoint)
    shutil.rmtree(directory, ignore_errors=True)


def mounts_below(directory: Path) -> list[Path]:
    """Mountpoints below a directory, the latest first."""
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    places = [Path(line.split()[4]) for line in lines]
    return [place for place in places if place.is_relative_to(directory)][::-1]


def _is_left(directory: Path) -> bool:
    """Whether the run that made a directory has ended: it holds the lock as long as it lives."""
    try:
        lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # just being made, or not ours
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True
