"""What a task is: a few records in a bucket, each created once, the last of which says how it stands.

The first record says what is to be done. Whoever adds the next one must create it under the next number, which the
store refuses to all but one: so the records are the history, the lock, and the fence that keeps out a worker whose
task was given to another.
"""

from __future__ import annotations

import enum
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import msgspec

from fusepkg.errors import ObjectExists, ObjectMissing, TaskError, TaskNotFound, UnsupportedFormat, UsageError
from fusepkg.registry import layout
from fusepkg.registry.races import get_after_races
from fusepkg.registry.tags import READ_THREADS, current_publisher, time_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fusepkg.store.protocol import ObjectStore

RECORD_BYTES = 8 << 20
"""The most that a record may hold: what is to be done, or what came of it."""

_TRIES = 100
"""Numbers tried by one who submits or cancels, while others add records."""


class Event(enum.StrEnum):
    """What a record says. The last three end a task: nothing comes after them."""

    SUBMITTED = "submitted"
    CLAIMED = "claimed"
    RENEWED = "renewed"
    RELEASED = "released"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Status(enum.StrEnum):
    """How a task stands."""

    SUBMITTED = "SUBMITTED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    ERROR = "ERROR"
    CANCELLED = "CANCELLED"


_STATUS = {
    Event.SUBMITTED: Status.SUBMITTED,
    Event.CLAIMED: Status.RUNNING,
    Event.RENEWED: Status.RUNNING,
    Event.RELEASED: Status.SUBMITTED,
    Event.DONE: Status.DONE,
    Event.FAILED: Status.ERROR,
    Event.CANCELLED: Status.CANCELLED,
}


class TaskRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The JSON of a record; unknown keys are ignored.

    ``worker`` is a text that nobody else has: it tells a worker that a record is its own. ``attempt`` counts the
    workers so far. ``time`` and ``by`` are for people: no clock of one machine is compared with another's.
    """

    event: Event
    time: str
    by: str
    worker: str
    attempt: int = 0
    lease_s: float = 0.0
    kind: str = ""
    about: str = ""
    parameters: dict[str, Any] = {}  # msgspec gives each a dictionary of its own
    progress: str = ""
    result: Any = None
    code: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """A task as its first and last records say. ``about`` is the package that it is for, or empty.

    ``reason`` says why it failed or was cancelled, or why the last worker gave it back; ``code`` is that of the error.
    ``record`` is the number of the last record, ``worker`` who wrote it.
    """

    number: int
    kind: str
    about: str
    parameters: Mapping[str, Any]
    status: Status
    submitted: str
    submitted_by: str
    changed: str
    changed_by: str
    attempt: int
    lease_s: float
    progress: str
    result: Any
    code: str
    reason: str
    record: int
    worker: str

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens to it."""
        return self.status in (Status.DONE, Status.ERROR, Status.CANCELLED)


def submit(store: ObjectStore, kind: str, parameters: Mapping[str, Any], *, about: str = "") -> Task:
    """Add a task to a bucket. Nothing begins by itself: a worker has to run it. Raises TaskError, RemoteError."""
    record = make_record(Event.SUBMITTED, kind=kind, about=about, parameters=dict(parameters))
    newest = next((number for prefix in store.list_directories(layout.TASKS) if (number := _number(prefix))), 0)
    for number in range(newest + 1, newest + 1 + _TRIES):
        if add_record(store, number, 1, record):
            return _task(number, record, 1, record)
    raise TaskError(f"no number is free for a task in {store.url('')}", hint="Try again: many are being submitted")


def read_task(store: ObjectStore, number: int) -> Task:
    """Return a task as it stands. Raises TaskNotFound, RemoteError."""
    if not 0 < number < 10**10 - 1:
        raise UsageError(f"{number} is not the number of a task", hint="They count from 1")
    keys = (layout.parse_task_key(info.key) for info in store.list(layout.task_prefix(number), limit=1))
    newest = next((found[1] for found in keys if found), None)
    if newest is None:
        raise TaskNotFound(f"{store.url('')} has no task {number}", hint="See which there are with: fusepkg tasks list")
    last = read_record(store, number, newest)
    return _task(number, last if newest == 1 else read_record(store, number, 1), newest, last)


def list_tasks(store: ObjectStore, *, limit: int | None = None) -> list[Task]:
    """Return the tasks of a bucket, newest first, at most ``limit``: some four small requests for each."""
    found = (number for prefix in store.list_directories(layout.TASKS) if (number := _number(prefix)))
    with ThreadPoolExecutor(READ_THREADS, thread_name_prefix="fusepkg-tasks") as threads:
        return list(threads.map(lambda number: read_task(store, number), islice(found, limit)))


def cancel(store: ObjectStore, number: int) -> Task:
    """End a task that is not over; its worker, if there is one, stops within a third of its lease.

    One that is over stays as it is, and is returned. Raises TaskNotFound, TaskError, RemoteError.
    """
    for _ in range(_TRIES):
        task = read_task(store, number)
        if task.is_over:
            return task
        record = make_record(Event.CANCELLED, attempt=task.attempt, reason=f"cancelled by {current_publisher()}")
        if add_record(store, number, task.record + 1, record):
            return read_task(store, number)
    raise TaskError(f"task {number} could not be cancelled: others keep writing to it", hint="Try again")


# --- records -------------------------------------------------------------------------------------------------


def make_record(event: Event, *, worker: str = "", **more: Any) -> TaskRecord:  # noqa: ANN401 - fields of Record
    """Return a record of this moment, of this user on this machine."""
    return TaskRecord(event, time_text(datetime.now(UTC)), current_publisher(), worker or token_hex(8), **more)


def add_record(store: ObjectStore, task: int, number: int, record: TaskRecord) -> bool:
    """Create a record. False if another one has that number already; True if it is this very one.

    The latter is so where the answer to the request that created it was lost. Raises TaskError, RemoteError.
    """
    data = msgspec.json.encode(record) + b"\n"
    if len(data) > RECORD_BYTES:
        raise TaskError(
            f"what task {task} has to say takes {len(data):,} bytes, and may take {RECORD_BYTES:,}",
            hint="Split it into several tasks",
        )
    try:
        store.create(layout.task_record_key(task, number), data)
    except ObjectExists:
        return read_record(store, task, number) == record
    return True


def read_record(store: ObjectStore, task: int, number: int) -> TaskRecord:
    """Return a record. Raises TaskNotFound, UnsupportedFormat, RemoteError."""
    key = layout.task_record_key(task, number)
    try:
        data = get_after_races(store, key, RECORD_BYTES)
        return msgspec.json.decode(data, type=TaskRecord)
    except ObjectMissing as exc:
        raise TaskNotFound(f"{store.url(key)} is gone: a record of task {task}") from exc
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise UnsupportedFormat(f"{store.url(key)} is not a record of a task: {exc}") from exc


def _number(prefix: str) -> int | None:
    found = layout.parse_task_key(prefix)
    return found[0] if found and found[1] is None else None


def _task(number: int, first: TaskRecord, last_number: int, last: TaskRecord) -> Task:
    return Task(
        number=number,
        kind=first.kind,
        about=first.about,
        parameters=first.parameters,
        status=_STATUS[last.event],
        submitted=first.time,
        submitted_by=first.by,
        changed=last.time,
        changed_by=last.by,
        attempt=last.attempt,
        lease_s=last.lease_s,
        progress=last.progress,
        result=last.result,
        code=last.code,
        reason=last.reason,
        record=last_number,
        worker=last.worker,
    )
