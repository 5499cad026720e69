"""What the command line can do of tasks: kinds of work by name, each loaded when a task of it is done."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusepkg.tasks.work import Handler, Handlers, Running

_KINDS = {
    "re-encode": "fusepkg.datasets.re_encoding:run",
    "pool-run": "fusepkg.pool.task:run",
}
"""Module and function by kind. The function does the task with the settings of this process (``current_context``)."""


def handlers() -> Handlers:
    """Return what does the tasks of each kind."""
    return {kind: _handler(place) for kind, place in _KINDS.items()}


def _handler(place: str) -> Handler:
    module, _, name = place.partition(":")

    def work(running: Running) -> Any:  # noqa: ANN401 - what JSON can hold
        return getattr(import_module(module), name)(running)

    return work
