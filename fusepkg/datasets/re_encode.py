"""The task that encodes videos of a dataset again: submitting it, and how it stands. ``re_encoding`` does it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg.datasets.media import program
from fusepkg.errors import DataUnfit, TaskNotFound
from fusepkg.tasks.start import start_worker
from fusepkg.tasks.task import Status, read_task, submit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fusepkg.app.context import Context
    from fusepkg.model.reference import Reference

log = logging.getLogger(__name__)

KIND = "re-encode"


@dataclass(frozen=True, slots=True)
class ReEncodeVideoTaskResult:
    """A video that was encoded again: ``bucket_path`` is where it lies, ``signed_url`` where it can be read for now."""

    data_hash: str
    signed_url: str
    bucket_path: str


@dataclass(frozen=True, slots=True)
class ReEncodeVideoTask:
    """How a task stands: ``status`` is SUBMITTED, DONE (then there is a ``result``) or ERROR (then a ``reason``)."""

    status: str
    result: Sequence[ReEncodeVideoTaskResult] | None = None
    reason: str = ""


def submit_task(context: Context, reference: Reference, data_hashes: Sequence[str], start: bool) -> int:
    """Submit the task, and start a worker. Raises DataUnfit without a video, SystemFailure, RemoteError."""
    if not data_hashes:
        raise DataUnfit(f"none of these is a video of {reference}", hint="See its rows: fusepkg datasets data-rows")
    if start:
        program("ffmpeg")  # raises before there is a task that cannot be done here
    task = submit(context.store(reference.bucket), KIND, {"videos": list(data_hashes)}, about=str(reference))
    if start:
        path = start_worker(reference.bucket, task.number, context.settings)
        log.info("task %d is being done; its log is %s", task.number, path)
    return task.number


def task_status(context: Context, reference: Reference, number: int, sign: Callable[[str], str]) -> ReEncodeVideoTask:
    """Return how a task stands; ``sign`` makes the URL of an object. Raises TaskNotFound for one of another dataset."""
    task = read_task(context.store(reference.bucket), number)
    if task.kind != KIND or task.about != str(reference):
        raise TaskNotFound(f"task {number} is not about videos of {reference}", hint="See: fusepkg tasks list")
    if task.status is Status.DONE:
        results = [
            ReEncodeVideoTaskResult(one["data_hash"], sign(one["bucket_path"]), one["bucket_path"])
            for one in task.result or ()
        ]
        return ReEncodeVideoTask("DONE", results)
    if task.is_over:
        return ReEncodeVideoTask("ERROR", reason=task.reason)
    return ReEncodeVideoTask("SUBMITTED", reason=task.reason)
