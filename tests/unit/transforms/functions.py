"""What transforms of tests run, also in other processes; and a driver that can be killed."""

from __future__ import annotations

import os
import signal
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from fusepkg import Package
from fusepkg.api.entry import PackageEntry

COUNT = 160
"""Entries of the package."""


def doubled(entry: PackageEntry) -> bytes:
    return entry.get_bytes() * 2


def told(entry: PackageEntry) -> bytes:
    """Say on standard output, in one write, that an entry is being done."""
    os.write(1, f"{entry.logical_key}\n".encode())
    return entry.get_bytes() * 2


def dies_at_first(entry: PackageEntry) -> bytes:
    """Kill the worker at the first try of one entry, and at each of another."""
    mark = Path(os.environ["MARK"])
    if entry.logical_key == "in/070.txt" and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if entry.logical_key == "in/100.txt":
        os.kill(os.getpid(), signal.SIGKILL)
    return entry.get_bytes() * 2


def drive(out: str) -> None:
    """Run a transform in two processes."""
    Package("local/in:v1").map(told, out=out, executor="processes", jobs=2)


class Lossy(Executor):
    """An executor all of whose workers are lost after some batches."""

    _max_workers = 2

    def __init__(self, left: int) -> None:
        self.left = left

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.left -= 1
        if self.left < 0:
            future.set_exception(BrokenProcessPool("gone"))
        else:
            future.set_result(fn(*args, **kwargs))
        return future
