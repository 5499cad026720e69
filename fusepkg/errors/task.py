"""Tasks that failed or cannot be run."""

from __future__ import annotations

from fusepkg.errors.base import FusepkgError


class TaskError(FusepkgError):
    """A task failed, or cannot be run."""

    code = "task"
    exit_code = 15


class TaskNotFound(TaskError):
    """The bucket has no task of that number."""

    code = "task.not_found"
    exit_code = 3


class TaskStopped(TaskError):
    """A task was cancelled, or another worker has taken it over."""

    code = "task.stopped"
