"""The run's own directory, in which everything is made, and how it is cleared away: also after kill -9."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bench.subjects.subject import unmount

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_PREFIX = "fusepkg-bench-"
_LOCK = "running"

CLEARING_S = 30.0
"""How long a directory is removed again, while programs that are ending still write into it."""


@contextmanager
def scratch_directory(parent: Path) -> Iterator[Path]:
    """Make a fresh directory, and clear it away at the end.

    Directories of killed runs are cleared away first. A process of its own watches this one, and clears the directory
    away if this one is killed.
    """
    for left in parent.glob(f"{_PREFIX}*"):
        if _is_left(left):
            clear_away(left)
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    lock = os.open(directory / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    watcher = subprocess.Popen(
        [sys.executable, "-m", "bench.scratch", str(os.getpid()), str(directory)],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield directory
    finally:
        clear_away(directory, spared={watcher.pid})
        watcher.kill()
        watcher.wait()
        os.close(lock)


def clear_away(directory: Path, spared: Collection[int] = ()) -> None:
    """Kill the programs that work in a directory, unmount what is mounted below it, and remove it."""
    deadline = time.monotonic() + CLEARING_S
    while True:
        for process in _programs_of(directory) - {os.getpid(), *spared}:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        for mountpoint in mounts_below(directory):
            unmount(mountpoint)
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists() or time.monotonic() > deadline:
            return
        time.sleep(0.1)


def mounts_below(directory: Path) -> list[Path]:
    """Return the mountpoints below a directory, the latest first."""
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    places = [Path(line.split()[4]) for line in lines]
    return [place for place in places if place.is_relative_to(directory)][::-1]


def _programs_of(directory: Path) -> set[int]:
    """Return the processes whose directory, arguments or environment name the directory: no other has that name."""
    name = os.fsencode(directory)
    found = set()
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with suppress(OSError):
                said = (place / "cmdline").read_bytes() + (place / "environ").read_bytes()
                if name in said or os.fsencode(os.readlink(place / "cwd")).startswith(name):
                    found.add(int(place.name))
    return found


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


def _watch(process: int, directory: Path) -> None:
    """Wait until a process has ended, then clear its directory away."""
    with suppress(ProcessLookupError):  # it has ended already
        select.select([os.pidfd_open(process)], [], [])
    clear_away(directory)


if __name__ == "__main__":
    _watch(int(sys.argv[1]), Path(sys.argv[2]))
