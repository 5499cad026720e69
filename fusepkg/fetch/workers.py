"""Threads that make requests; the end of a process does not wait for them."""

from __future__ import annotations

import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_IDLE_S = 30.0
"""An idle thread ends after this long."""


class DaemonThreads:
    """Up to ``most`` daemon threads, started as work comes; what they run must raise nothing."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._threads = 0
        self._free = 0
        """Threads less the jobs that wait or run."""

    def submit(self, job: Callable[[], None]) -> None:
        """Run a job in a thread."""
        with self._lock:
            self._free -= 1
            start = self._free < 0 and self._threads < self._most
            if start:
                self._threads += 1
                self._free += 1
            self._jobs.put(job)  # under the lock: an idle thread that gives up now must see it
        if start:
            threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def close(self) -> None:
        """Let idle threads end; the others end after their job, or with the process."""
        with self._lock:
            self._closed = True
            for _ in range(self._threads):
                self._jobs.put(None)

    def _work(self) -> None:
        while True:
            job = None
            with suppress(Empty):
                job = self._jobs.get(timeout=_IDLE_S)
            if job is None:
                with self._lock:
                    if not self._closed and not self._jobs.empty():
                        continue
                    self._threads -= 1
                    self._free -= 1
                return
            job()
            with self._lock:
                self._free += 1
