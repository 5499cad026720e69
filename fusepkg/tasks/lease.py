"""Who works on a task: one worker at a time, for as long as it renews its lease.

A worker that has not renewed for the length of its lease stops by itself. Another one takes over after it has watched
the task for as long without a new record, by its own clock: clocks of two machines are never compared, they only have
to run equally fast. Should a worker go on all the same, as its machine was frozen, it finds the number of its last
record taken.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from fusepkg.errors import RemoteError, TaskStopped
from fusepkg.tasks.task import Event, Status, add_record, make_record, read_record, read_task

if TYPE_CHECKING:
    from fusepkg.store.protocol import ObjectStore
    from fusepkg.tasks.task import Task

LEASE_S = 60.0
"""How long a worker may be silent before its task is another's."""

_RENEWALS = 3
"""A lease is renewed so often in its length: two renewals may fail."""


class Lease:
    """A task that this process works on; renewed by a thread of its own until it is closed. Safe for many threads."""

    def __init__(self, store: ObjectStore, task: Task, worker: str, lease_s: float, renewed: float) -> None:
        self.task = task
        self._store = store
        self._worker = worker
        self._lease_s = lease_s
        self._record = task.record
        self._renewed = renewed
        self._progress = ""
        self._lost = ""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"fusepkg-task-{task.number}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise TaskStopped if the task is no longer this worker's. Call it between pieces of work."""
        if not self._lost and _now() - self._renewed >= self._lease_s:
            self._lost = f"its lease of {self._lease_s:g} s could not be renewed"
        if self._lost:
            raise TaskStopped(f"task {self.task.number} was stopped: {self._lost}")

    def progress(self, text: str) -> None:
        """Say how far it is; others see it after the next renewal. Raises TaskStopped as ``check``."""
        self._progress = text
        self.check()

    def end(self, event: Event, **more: Any) -> None:  # noqa: ANN401 - fields of a record
        """Write the last record, and stop renewing. Raises TaskStopped if the task is another's by now."""
        self.close()
        while True:
            self.check()
            with suppress(RemoteError):
                self._add(event, **more)
                break
            time.sleep(self._pause_after_error_s)
        self.check()

    def close(self) -> None:
        """Stop renewing."""
        self._closed.set()
        self._thread.join()

    def _keep(self) -> None:
        pause = self._lease_s / _RENEWALS
        while not self._closed.wait(pause) and not self._lost:
            begun = _now()
            try:
                self._add(Event.RENEWED, progress=self._progress)
                self._renewed = begun
                pause = self._lease_s / _RENEWALS
            except RemoteError:
                pause = self._pause_after_error_s  # until `check` finds that it has taken too long

    @property
    def _pause_after_error_s(self) -> float:
        return self._lease_s / (4 * _RENEWALS)

    def _add(self, event: Event, **more: Any) -> None:  # noqa: ANN401 - fields of a record
        """Write the next record, or learn that the task is another's. Raises RemoteError."""
        fields = {"attempt": self.task.attempt, "lease_s": self._lease_s, **more}
        record = make_record(event, worker=self._worker, **fields)
        while not self._lost and not add_record(self._store, self.task.number, self._record + 1, record):
            # One of our own may be there, of a request whose answer was lost.
            if read_record(self._store, self.task.number, self._record + 1).worker == self._worker:
                self._record += 1
                continue
            other = read_task(self._store, self.task.number)
            self._lost = other.reason or f"{other.changed_by} has taken it over"
        self._record += 1


def claim(store: ObjectStore, task: Task, lease_s: float = LEASE_S) -> Lease | None:
    """Take a task on, whoever had it; None if somebody else was quicker. Raises RemoteError."""
    worker, begun = token_hex(8), _now()
    record = make_record(Event.CLAIMED, worker=worker, attempt=task.attempt + 1, lease_s=lease_s)
    if not add_record(store, task.number, task.record + 1, record):
        return None
    return Lease(store, read_task(store, task.number), worker, lease_s, begun)


@dataclass(slots=True)
class _Seen:
    record: int
    since: float


class Watch:
    """Knows which tasks nobody works on any more, from how long each has been without a new record."""

    def __init__(self) -> None:
        self._seen: dict[int, _Seen] = {}

    def wait_s(self, task: Task) -> float:
        """Return for how many seconds a task is still another's; 0 if it is free, or over."""
        if task.status is not Status.RUNNING:
            return 0.0
        seen = self._seen.get(task.number)
        if seen is None or seen.record != task.record:
            seen = self._seen[task.number] = _Seen(task.record, _now())
        return max(0.0, seen.since + task.lease_s - _now())


def _now() -> float:
    """Seconds of a clock that goes on while the machine sleeps, and is never set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
