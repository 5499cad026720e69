"""The lock that one thread of one process holds while it changes a cache directory.

A flock of an empty file: the kernel drops it when its process ends, however that happens, and it means the same in
every PID namespace, so containers can share a cache. Waiting is polling, so it has an end: a process that was stopped
in the middle of a change makes others give up after ``PATIENCE_S``, not wait for ever. Reads never take it.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fusepkg_cache._translate import hanging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE_S = 15.0
"""How long a caller waits for the lock. A change takes milliseconds; but a process that was stopped (Ctrl-Z) in the
middle of one keeps the lock until it goes on."""

FIRST_PAUSE_S = 0.0001
LONGEST_PAUSE_S = 0.004
"""Between two tries: a change of many blobs takes about as long."""

CLOSE_PATIENCE_S = 1.0

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class WriteLock:
    """The lock of one cache directory, for one process. ``prepare`` makes the directory again if it was removed."""

    def __init__(self, path: Path, prepare: Callable[[], object]) -> None:
        self._path = path
        self._prepare = prepare
        self._threads = threading.Lock()
        self._descriptor = -1

    @contextmanager
    def held(self, patience_s: float | None = None) -> Iterator[None]:
        """Hold the lock for the block. Raises CacheUnusable after ``patience_s`` (``PATIENCE_S``), OSError."""
        waits_s = PATIENCE_S if patience_s is None else patience_s
        until_s = time.monotonic() + waits_s
        if not self._threads.acquire(timeout=waits_s):
            raise hanging(waits_s)
        try:
            pause_s = FIRST_PAUSE_S
            while not self._lock():
                if time.monotonic() >= until_s:
                    raise hanging(waits_s)
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            try:
                yield
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        finally:
            self._threads.release()

    def close(self) -> None:
        """Let go of the file; not while a thread of this process hangs with the lock held."""
        if self._threads.acquire(timeout=CLOSE_PATIENCE_S):
            self.forget()
            self._threads.release()

    def forget(self) -> None:
        """In a forked child: close the copy of the parent's lock, which would outlive the parent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _lock(self) -> bool:
        """Take the lock of the file that has the name now; False if another process holds it."""
        if self._descriptor < 0:
            try:
                self._descriptor = os.open(self._path, _FLAGS, 0o600)
            except OSError:  # it is not there, or something that is no file has its name
                self._prepare()
                self._descriptor = os.open(self._path, _FLAGS, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if os.fstat(self._descriptor).st_nlink:
            return True
        self.forget()  # somebody removed the file: others lock another one by now
        return False
