"""A datapool's run as a task, which outlasts the command that asks for it and may be done on any machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fusepkg.errors import TaskError, UsageError
from fusepkg.model.reference import parse_bucket, parse_reference
from fusepkg.opened.contexts import current_context
from fusepkg.pool.config import PoolConfig, check, is_folder, is_prefix, read_config
from fusepkg.pool.pool import Pool
from fusepkg.tasks.start import start_worker
from fusepkg.tasks.task import submit

if TYPE_CHECKING:
    import os

    from fusepkg.model.reference import BucketUrl
    from fusepkg.tasks.task import Task
    from fusepkg.tasks.work import Running
    from fusepkg.work.progress import Progress

KIND = "pool-run"

_EMBEDDERS = ("histogram",)
"""Those that need nothing of the worker's machine. A function would be code that whoever may submit a task chooses."""


def submit_run(path: str | os.PathLike[str], *, process_all: bool = False, start: bool = True) -> Task:
    """Submit the run of a pool.toml to its target's bucket, and start a worker unless ``start`` is False.

    Raises UsageError for a pool that needs what is not in that bucket, SystemFailure, RemoteError.
    """
    config = read_config(Path(path))
    for bucket, what in _places(config, str(path)):
        if bucket != parse_reference(config.target).bucket:
            raise UsageError(f"{path}: {what} is not in the bucket of {config.target}, as a task wants it", hint=_HINT)
    if process_all:
        config = msgspec.structs.replace(config, process_all=True)
    context, target = current_context(), parse_reference(config.target)
    task = submit(context.store(target.bucket), KIND, msgspec.to_builtins(config), about=str(target))
    if start:
        start_worker(target.bucket, task.number, context.settings)
    return task


_HINT = "Run it with: fusepkg pool run"


def run(running: Running) -> dict[str, Any]:
    """Do the task. One that was done already finds nothing new. Raises TaskError, and as ``Pool.run``."""
    try:
        config = msgspec.convert(dict(running.parameters), PoolConfig)
        check(config, f"task {running.task.number}")
        places = _places(config, f"task {running.task.number}")
    except (msgspec.ValidationError, UsageError) as exc:
        raise TaskError(f"it is no run of a datapool: {exc}") from exc
    for bucket, what in places:
        running.require_own_bucket(current_context().store(bucket), what)

    def progress(phase: Progress) -> None:
        running.progress(f"{phase.phase.value}: {phase.done:,} of {phase.total:,}")

    done = Pool.from_config(config).run(progress=progress)
    reference = str(done.package.reference)
    return {"reference": reference, "tag": done.tag, "chosen": len(done.chosen), "total": done.total}


def _places(config: PoolConfig, where: str) -> list[tuple[BucketUrl, str]]:
    """Return the buckets of a pool, and what lies there. Raises UsageError for one that needs a machine's own files."""
    if config.embedder not in _EMBEDDERS or config.metadata is not None:
        raise UsageError(f"{where}: a task has the embedder {_EMBEDDERS[0]} and no file of metadata", hint=_HINT)
    places = [(parse_reference(config.target).bucket, config.target)]
    for source in config.sources:
        if is_folder(source):
            raise UsageError(f"{where}: {source} is a folder of one machine", hint=_HINT)
        prefix = source.removeprefix("s3://").partition("/")[0]
        places.append((parse_bucket(prefix) if is_prefix(source) else parse_reference(source).bucket, source))
    return places
