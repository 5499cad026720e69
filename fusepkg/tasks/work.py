"""Running tasks: one, or all of a bucket that nobody works on."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from fusepkg.errors import FusepkgError, TaskError, TaskStopped, UsageError
from fusepkg.tasks.lease import LEASE_S, Watch, claim
from fusepkg.tasks.task import Event, Status, list_tasks, read_task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fusepkg.store.protocol import ObjectStore
    from fusepkg.tasks.lease import Lease
    from fusepkg.tasks.task import Task

    Handlers: TypeAlias = "Mapping[str, Handler]"
    """What does the tasks of each kind."""

    Handler: TypeAlias = "Callable[[Running], Any]"
    """Does a task, and returns its result, which JSON can hold.

    It may be called again for a task that it has done in part, or in whole: it finds out, and does not do it twice.
    """

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 5
"""Workers that may give up, or die, on a task before it counts as failed."""

POLL_S = 10.0
"""How often a worker looks for new tasks."""

_LOOKED_AT = 1000
"""Tasks of a bucket that a worker looks at: the newest."""

_RETRY_S = 2.0


@dataclass(frozen=True, slots=True)
class Running:
    """A task that is being done, and the bucket that its records lie in.

    Whoever may write there can submit tasks: one may ask for nothing beyond that bucket (``require_own_bucket``), or
    it would be done with rights that those who asked do not have.
    """

    task: Task
    lease: Lease
    store: ObjectStore

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What was asked for."""
        return self.task.parameters

    def require_own_bucket(self, store: ObjectStore, what: str) -> None:
        """Raise TaskError if something that the task names lies in another bucket than its records."""
        if store.url("") != self.store.url(""):
            raise TaskError(
                f"{what} lies in another bucket than task {self.task.number}, and is left alone",
                hint="Submit the task to the bucket that it is about",
            )

    def check(self) -> None:
        """Raise TaskStopped if the task was cancelled or is another worker's now. Call it between pieces of work."""
        self.lease.check()

    def progress(self, text: str) -> None:
        """Say how far it is, for `tasks list`. Raises TaskStopped as ``check``."""
        self.lease.progress(text)


def run_task(
    store: ObjectStore,
    number: int,
    handlers: Handlers,
    *,
    lease_s: float = LEASE_S,
    waits: Callable[[Task], None] = lambda _task: None,
) -> Task:
    """Do a task, and return how it stands then. Waits while another worker is at it, and takes over if that is silent.

    ``waits`` is told of a worker that is waited for, once each. An error of the task's own is its result, and is not
    raised. Raises TaskNotFound, UsageError for a kind that nobody
    here can do, RemoteError.
    """
    check_lease(lease_s)
    watch, stop = Watch(), threading.Event()
    told: set[str] = set()
    while not (task := read_task(store, number)).is_over:
        _handler(task, handlers)
        wait_s = watch.wait_s(task)
        if wait_s:
            if task.worker not in told:
                told.add(task.worker)
                waits(task)
            stop.wait(min(wait_s, POLL_S, max(task.lease_s / 4, 0.05)))
        elif (ended := _attempt(store, task, handlers, lease_s)) is not None and ended.status is Status.SUBMITTED:
            stop.wait(min(_RETRY_S * ended.attempt, lease_s))
    return task


def run_all(
    store: ObjectStore,
    handlers: Handlers,
    *,
    lease_s: float = LEASE_S,
    follow: bool = False,
    wants: Callable[[Task], bool] = lambda _task: True,
    report: Callable[[Task], None] = lambda _task: None,
    waits: Callable[[Task], None] = lambda _task: None,
) -> int:
    """Do the tasks of a bucket that nobody works on, oldest first, and return how many; with ``follow`` for ever.

    Those of others are waited for, in case their worker has died; ``waits`` is told of each, once. Tasks of kinds that
    nobody here can do, and those that ``wants`` refuses, are left alone. Raises RemoteError.
    """
    check_lease(lease_s)
    watch, stop = Watch(), threading.Event()
    told: set[str] = set()
    done = 0
    while True:
        waiting: list[float] = []
        for task in reversed(list_tasks(store, limit=_LOOKED_AT)):
            if task.is_over or task.kind not in handlers or not wants(task):
                continue
            wait_s = watch.wait_s(task)
            if wait_s:
                waiting.append(wait_s)
                if task.worker not in told:
                    told.add(task.worker)
                    waits(task)
            elif (ended := _attempt(store, task, handlers, lease_s)) is not None:
                report(ended)
                done += 1
                if not ended.is_over:
                    waiting.append(_RETRY_S)
        if not waiting and not follow:
            return done
        stop.wait(min([*waiting, POLL_S]))


def check_lease(lease_s: float) -> None:
    """Raise UsageError for a lease that nobody could keep."""
    if not 0.5 <= lease_s <= 86400:
        raise UsageError(f"a lease of {lease_s:g} s", hint="Write seconds, from 0.5 to 86400")


def _handler(task: Task, handlers: Handlers) -> Handler:
    if task.kind not in handlers:
        known = ", ".join(sorted(handlers))
        raise UsageError(f"task {task.number} is of the kind {task.kind!r}, which is none of {known}")
    return handlers[task.kind]


def _attempt(store: ObjectStore, task: Task, handlers: Handlers, lease_s: float) -> Task | None:
    """Work on a task that is free; how it stands then. None if another worker was quicker."""
    lease = claim(store, task, lease_s)
    if lease is None:
        return None
    try:
        if task.attempt >= MAX_ATTEMPTS:
            again = f"; the last one: {task.reason}" if task.reason else ""
            reason = f"{MAX_ATTEMPTS} workers began it, and none came to its end{again}"
            lease.end(Event.FAILED, code="task", reason=reason)
        else:
            _work(Running(lease.task, lease, store), handlers[task.kind])
    except TaskStopped as exc:
        log.info("%s", exc.message)
    finally:
        lease.close()
    return read_task(store, task.number)


def _work(running: Running, handler: Handler) -> None:
    lease = running.lease
    try:
        result = handler(running)
    except TaskStopped:
        raise
    except FusepkgError as exc:
        event = Event.RELEASED if exc.retryable else Event.FAILED
        lease.end(event, code=exc.code, reason=str(exc))
    except Exception as exc:
        log.exception("task %d failed by a bug", lease.task.number)
        lease.end(Event.FAILED, code=FusepkgError.code, reason=f"a bug in fusepkg: {exc!r}")
    except BaseException:
        with suppress(TaskStopped):
            lease.end(Event.RELEASED, reason="its worker was interrupted", attempt=lease.task.attempt - 1)
        raise
    else:
        lease.end(Event.DONE, result=result)
