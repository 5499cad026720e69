"""Making and ending mounts, and what a test asks of one."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusepkg.daemon import control, records
from fusepkg.errors import NotMounted
from tests.command import run_fusepkg
from tests.plugins.leftovers import mounts_below

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusepkg.daemon.records import MountRecord

END_TIMEOUT_S = 10
"""Until a daemon has ended after its mount: it takes milliseconds."""

KEEP_TIMEOUT_S = 30
"""Until fetched bytes are in the cache: one sync of the disk, which others may keep busy."""

POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted package."""

    root: Path
    record: MountRecord

    def __truediv__(self, path: str) -> Path:
        return self.root / path

    def status(self) -> dict[str, Any]:
        """What `fusepkg status --json` adds to the record."""
        return control.ask(Path(self.record.socket), control.Question("status"))

    @property
    def counters(self) -> dict[str, int]:
        """What has been fetched and served."""
        counters: dict[str, int] = self.status()["counters"]
        return counters

    def facts(self, path: str) -> dict[str, Any]:
        """What `fusepkg stat --json` tells of a file."""
        return control.ask(Path(self.record.socket), control.Question("stat", path))

    def wait_until_kept(self, *paths: str, wholly: bool = False) -> None:
        """Wait until the cache has what was read of files: a reader gets its bytes before they are on the disk."""
        deadline = time.monotonic() + KEEP_TIMEOUT_S
        for path in paths:
            while self.facts(path)["cached"] in (("no", "partly") if wholly else ("no",)):
                assert time.monotonic() < deadline, f"{path} is not kept after {KEEP_TIMEOUT_S} s"
                time.sleep(POLL_S)

    def url(self, path: str) -> str:
        """The object behind a file."""
        return str(self.facts(path)["physical_key"])

    def log(self) -> str:
        """The daemon's log."""
        return Path(self.record.log).read_text()


@contextmanager
def mounted(reference: str, root: Path, engine: str, *options: object) -> Iterator[Mount]:
    """A package at a new directory, while the block runs."""
    root.mkdir(parents=True, exist_ok=True)
    try:
        run_fusepkg("mount", "--engine", engine, *options, reference, root)
        yield Mount(root, records.find_record(root)[0])
    finally:
        end(root)


def end(root: Path) -> None:
    """Take whatever is mounted at ``root`` away, and wait until its daemon has ended."""
    pid = None
    with suppress(NotMounted):
        pid = records.find_record(root)[0].pid
    while mounts_below(root):
        subprocess.run(["umount", "-l", root], check=True)
    if pid is not None and not ended(pid):
        # A mount namespace that somebody made meanwhile (a container) may hold a copy of the mount.
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def ended(pid: int) -> bool:
    """Wait for a process's end; False where there is none in time."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], END_TIMEOUT_S)[0])
    finally:
        os.close(process)


def forget_pages(path: Path) -> None:
    """Make the kernel drop what it keeps of a file, so that the next read asks the daemon."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def files_below(root: Path) -> list[str]:
    """Every regular file below a directory, relative to it, in order."""
    found = []
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory, name)
            if path.is_file() and not path.is_symlink():
                found.append(str(path.relative_to(root)))
    return sorted(found)
