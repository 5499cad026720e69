"""Unfinished files: written outside the blobs' directories, and removed when their writer has ended.

Each process has a directory below ``staging/``, locked while it lives. The lock is a flock of the
directory: the kernel drops it with the process, however that ends, and it means the same in every PID namespace, so
containers can share a cache.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class UnfinishedFiles:
    """The staging directory of this process; made, and others' remains swept, with the first file."""

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._descriptor = -1

    def directory(self) -> Path:
        """Return the directory; made again if it was removed."""
        with self._lock:
            if self._path is None or not self._path.is_dir():
                self._release()
                self._parent.mkdir(mode=0o700, exist_ok=True)
                sweep(self._parent)
                self._path, self._descriptor = _claim(self._parent)
            return self._path

    def write(self, pieces: Iterable[bytes]) -> Path:
        """A new file with these bytes, read-only: blobs never change, not even through a hard link."""
        path = self.directory() / secrets.token_hex(8)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
            try:
                for piece in pieces:
                    view = memoryview(piece)
                    while view:
                        view = view[os.write(descriptor, view) :]
            finally:
                os.close(descriptor)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    def close(self) -> None:
        """Remove the directory and what is left in it."""
        with self._lock:
            self._release()

    def disown(self) -> None:
        """Leave the directory to the process this one was forked from, which alone is to keep it from being swept."""
        if self._path is not None:
            os.close(self._descriptor)
            self._path = None

    def _release(self) -> None:
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            os.close(self._descriptor)
            self._path = None


def sweep(parent: Path) -> int:
    """Remove the staging directories of processes that are gone; how many."""
    swept = 0
    for path in parent.iterdir():
        descriptor = _lock(path)
        if descriptor is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(descriptor)
            swept += 1
    return swept


def _claim(parent: Path) -> tuple[Path, int]:
    """A new directory and the locked descriptor of it."""
    while True:
        path = parent / secrets.token_hex(8)
        path.mkdir(mode=0o700)
        descriptor = _lock(path)  # None: another process swept it before it was locked
        if descriptor is not None:
            if path.exists():
                return path, descriptor
            os.close(descriptor)


def _lock(path: Path) -> int | None:
    """The descriptor of a directory, locked; None where it is locked already, gone, or no directory."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
