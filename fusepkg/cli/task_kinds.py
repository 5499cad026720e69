"""What the command line can do of tasks: kinds of work by name, each loaded when a task of it is done."""

from __future__ import annotations

import shlex
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fusepkg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fusepkg.tasks.task import Task
    from fusepkg.tasks.work import Handler, Handlers, Running

_KINDS = {
    "re-encode": "fusepkg.datasets.re_encoding:run",
    "pool-run": "fusepkg.pool.task:run",
}
"""Module and function by kind. The function does the task with the settings of this process (``current_context``)."""


_TRANSFORM = "transform"
"""Done by workers that were told its command."""


def handlers(commands: Sequence[Sequence[str]] = ()) -> Handlers:
    """Return what does the tasks of each kind: transforms too if there are ``commands`` that this worker may run."""

    def transform(running: Running) -> Any:  # noqa: ANN401 - what JSON can hold
        return import_module("fusepkg.api.transform_task").run(running, commands)

    found = {kind: _handler(place) for kind, place in _KINDS.items()}
    return found | {_TRANSFORM: transform} if commands else found


def is_wanted(task: Task, commands: Sequence[Sequence[str]]) -> bool:
    """Return whether a worker that may run these commands may do a task."""
    return task.kind != _TRANSFORM or task.parameters.get("command") in [list(words) for words in commands]


def check_wanted(task: Task, commands: Sequence[Sequence[str]]) -> None:
    """Raise UsageError for a transform whose command this worker was not told."""
    if not is_wanted(task, commands):
        words = task.parameters.get("command")
        said = shlex.join(map(str, words)) if isinstance(words, list) else ""
        raise UsageError(
            f"task {task.number} runs the command: {said}",
            hint=f"To let this worker run it, add: --command {shlex.quote(said)}",
        )


def _handler(place: str) -> Handler:
    module, _, name = place.partition(":")

    def work(running: Running) -> Any:  # noqa: ANN401 - what JSON can hold
        return getattr(import_module(module), name)(running)

    return work
