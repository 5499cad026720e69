"""Run batches on workers that may die: what was in their hands is tried once more, each part by itself."""

from __future__ import annotations

from collections import deque
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, wait
from typing import TYPE_CHECKING

from fusepkg.errors import AccessDenied, BucketNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from fusepkg.transforms.executors import ReopeningExecutor
    from fusepkg.transforms.parts import Part
    from fusepkg.transforms.work import BatchDone

Batch = tuple["Part", ...]

_LOST = (BrokenExecutor, CancelledError)
"""Errors of an executor that has no workers any more."""


def run_batches(
    work: Callable[[Batch], BatchDone],
    batches: Sequence[Batch],
    workers: ReopeningExecutor,
    collect: Callable[[BatchDone], None],
    lost: Callable[[Part, str], None],
) -> None:
    """Run batches; ``collect`` hears what came of each, ``lost`` of each part whose worker did not come back.

    What ``collect`` raises ends the run. Raises AccessDenied and BucketNotFound, which all others would meet too.
    """
    waiting = deque(batches)
    suspects: list[tuple[Part, str]] = []
    while waiting:
        broken = _round(work, waiting, workers, collect, suspects)
        if broken and not workers.can_restart:
            for batch in waiting:
                suspects += [(part, broken) for part in batch]
            waiting.clear()
        elif broken:
            workers.restart()
    for part, why in suspects:
        _alone(work, part, why, workers, collect, lost)


def _round(
    work: Callable[[Batch], BatchDone],
    waiting: deque[Batch],
    workers: ReopeningExecutor,
    collect: Callable[[BatchDone], None],
    suspects: list[tuple[Part, str]],
) -> str:
    """Run batches until there are none, or the workers are gone; return why, or "". What they held is suspect."""
    running: dict[Future[BatchDone], Batch] = {}
    broken = ""
    try:
        while running or (waiting and not broken):
            while waiting and not broken and len(running) <= workers.count:
                batch = waiting.popleft()
                try:
                    running[workers.executor.submit(work, batch)] = batch
                except (BrokenExecutor, RuntimeError) as exc:
                    waiting.appendleft(batch)
                    broken = _said(exc)
            for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
                batch = running.pop(future)
                try:
                    done = future.result()
                except (AccessDenied, BucketNotFound):
                    raise
                except Exception as exc:  # noqa: BLE001 - each executor has errors of its own
                    broken = broken or (_said(exc) if isinstance(exc, _LOST) else "")
                    suspects += [(part, _said(exc)) for part in batch]
                else:
                    collect(done)
    finally:
        for future in running:
            future.cancel()
    return broken


def _alone(
    work: Callable[[Batch], BatchDone],
    part: Part,
    why: str,
    workers: ReopeningExecutor,
    collect: Callable[[BatchDone], None],
    lost: Callable[[Part, str], None],
) -> None:
    """Run one part with nothing beside it, so that a worker that dies dies of it."""
    try:
        done = workers.executor.submit(work, (part,)).result()
    except (AccessDenied, BucketNotFound):
        raise
    except Exception as exc:  # noqa: BLE001 - as above
        lost(part, f"its worker was lost: {_said(exc) or why}")
        if isinstance(exc, BrokenExecutor | CancelledError | RuntimeError) and workers.can_restart:
            workers.restart()
    else:
        collect(done)


def _said(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
