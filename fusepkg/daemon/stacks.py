"""What a daemon is doing, printed into its log on SIGUSR1: the stack of each thread, and each trio task."""

from __future__ import annotations

import faulthandler
import logging
import signal
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

_STANDARD_ERROR = 2
"""Where stacks are printed: the log, in the background."""


def print_stacks_on_signal() -> None:
    """On SIGUSR1 print the stacks of all threads, also while the event loop hangs."""
    faulthandler.register(signal.SIGUSR1, file=_STANDARD_ERROR, all_threads=True, chain=True)


async def log_tasks_on_signal(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """On SIGUSR1 log the tree of tasks too, each with the place it waits at."""
    faulthandler.unregister(signal.SIGUSR1)
    with trio.open_signal_receiver(signal.SIGUSR1) as signals:
        print_stacks_on_signal()  # after that, so that both hear of it
        task_status.started()
        async for _ in signals:
            root = trio.lowlevel.current_root_task()
            assert root is not None, "the loop runs"
            log.info("tasks:\n%s", "\n".join(describe_task(root)))


def describe_task(task: trio.lowlevel.Task, depth: int = 0) -> Iterator[str]:
    """Yield a line for a task and for each below it: its name, and the innermost place of ours that it waits at."""
    frames = list(task.iter_await_frames())
    places = [f"{frame.f_code.co_name} ({frame.f_code.co_filename}:{line})" for frame, line in frames]
    yield f"{'  ' * depth}{task.name}: {' > '.join(places[-3:]) or 'has not started'}"
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from describe_task(child, depth + 1)
