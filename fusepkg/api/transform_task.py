"""A transform as a task, which outlasts the command that asks for it: its command runs over each entry, on any machine.

The command comes out of a bucket, and others may write there. So a worker runs those commands that it was told, to the
word, and no others.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from fusepkg.api.package import Package
from fusepkg.errors import TaskError, UsageError
from fusepkg.model.reference import parse_reference
from fusepkg.opened.contexts import current_context
from fusepkg.tasks.start import start_worker
from fusepkg.tasks.task import submit
from fusepkg.transforms.command import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fusepkg.tasks.task import Task
    from fusepkg.tasks.work import Running

KIND = "transform"

_FAILURES_NAMED = 100
"""Failures that the result names; all are counted."""


class TransformTask(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is to be done: ``source`` names a version by its hash, ``out`` a tag; the rest is as in ``Package.map``."""

    source: str
    out: str
    command: list[str]
    suffix: str = ""
    names: str = ""
    by: int = 1
    version: str | None = None
    message: str | None = None


def submit_transform(asked: TransformTask, *, start: bool = True) -> Task:
    """Submit a transform to the bucket of its package, and start a worker here unless ``start`` is False.

    Raises UsageError for packages of two buckets, SystemFailure, RemoteError.
    """
    source, out = parse_reference(asked.source), parse_reference(asked.out)
    if source.bucket != out.bucket:
        raise UsageError(
            f"{asked.source} and {asked.out} lie in two buckets; a task asks for nothing beyond its own",
            hint="Leave out --task",
        )
    context = current_context()
    task = submit(context.store(out.bucket), KIND, msgspec.to_builtins(asked), about=str(out))
    if start:
        words = ("--command", shlex.join(asked.command))
        start_worker(out.bucket, task.number, context.settings, words)
    return task


def run(running: Running, commands: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Do the task, if its command is one of ``commands``. What an earlier worker did is not done again.

    Raises TaskError, and as ``Package.map``.
    """
    try:
        asked = msgspec.convert(dict(running.parameters), TransformTask, strict=True)
    except msgspec.ValidationError as exc:
        raise TaskError(f"it is no transform: {exc}") from exc
    if asked.command not in [list(words) for words in commands]:
        raise TaskError(f"this worker was not told to run {shlex.join(asked.command)!r}")
    for reference in (asked.source, asked.out):
        running.require_own_bucket(current_context().store(parse_reference(reference).bucket), reference)
    command = Command(tuple(asked.command), asked.suffix)
    command.check()
    made = Package(asked.source).map(
        _Checked(command, running.check),
        out=asked.out,
        names=asked.names,
        by=asked.by,
        version=asked.version,
        message=asked.message,
        progress=lambda done, total: running.progress(f"{done:,} of {total:,} calls"),
    )
    return {
        "reference": str(made.package.reference),
        "entries": len(made.package),
        "done": made.done,
        "reused": made.reused,
        "failed": len(made.failures),
        "failures": [str(failure) for failure in made.failures[:_FAILURES_NAMED]],
    }


@dataclass(frozen=True)
class _Checked:
    """A command that is run only as long as the task is this worker's."""

    command: Command
    check: Callable[[], None]

    def transform_identity(self) -> tuple[str, str]:
        return self.command.transform_identity()

    def __call__(self, what: Any) -> dict[str, Any]:  # noqa: ANN401 - an entry, or a list of them
        self.check()
        return self.command(what)
