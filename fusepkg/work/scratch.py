"""Temporary directories beside their final place; those of killed processes are removed by the next one.

The lock is a flock of the directory: the kernel drops it with the process, however that ends.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fusepkg.work.private import make_private_directories

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def scratch_directory(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a directory below ``parent`` whose name starts with ``prefix``; removed after the block unless renamed.

    Directories that killed processes left with that prefix are removed first. Raises OSError.
    """
    make_private_directories(parent)
    for left in parent.glob(f"{prefix}*"):
        _remove_if_left(left)
    directory, lock = _make_locked(parent, prefix)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def scratch_name(prefix: str) -> str:
    """Return a new name that a later sweep of ``prefix`` recognizes."""
    return f"{prefix}{secrets.token_hex(8)}"


def _make_locked(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        directory = parent / scratch_name(prefix)
        directory.mkdir(mode=0o700)
        lock = _lock(directory)
        # Between mkdir and lock a sweeper may have taken the directory for a dead one.
        if lock is not None and directory.exists():
            return directory, lock
        if lock is not None:
            os.close(lock)


def _remove_if_left(directory: Path) -> None:
    lock = _lock(directory)
    if lock is not None:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _lock(directory: Path) -> int | None:
    """Return a descriptor that locks a directory while open; None if it is locked, gone, or another user's.

    A parent such as /tmp has files and links of others, too.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
