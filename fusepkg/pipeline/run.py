"""Running pipelines: each stage whose inputs have changed, after those it needs; side by side where none waits."""

from __future__ import annotations

import fcntl
import os
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

from fusepkg.errors import FusepkgError, RepositoryUnfit, TaskError
from fusepkg.pipeline.commands import Commands
from fusepkg.pipeline.data_sources import update_sources
from fusepkg.pipeline.graph import check_inputs
from fusepkg.pipeline.lock import differences, read_lock, write_entry
from fusepkg.pipeline.params import values_of
from fusepkg.pipeline.repository import ignore_outputs, require_here
from fusepkg.pipeline.stage_run import StageRun
from fusepkg.pipeline.versions import versions_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from fusepkg.app.context import Context
    from fusepkg.pipeline.repository import Pipeline, PipelineTree
    from fusepkg.pipeline.stage_run import StageOutcome
    from fusepkg.pipeline.stages import Stage


@dataclass(frozen=True, slots=True)
class StageState:
    """How a stage is: ``why`` it has to run, for people; empty if it is up to date. A frozen one never has to."""

    name: str
    is_frozen: bool
    why: tuple[str, ...]


def states(
    app: Context, pipeline: Pipeline, names: Sequence[str] = (), *, everywhere: bool = False
) -> Iterator[StageState]:
    """Yield how stages are, in the order in which they run. What a stage before it would change does not count.

    Raises UsageError for an unknown stage, RepositoryUnfit, and what hashing raises.
    """
    picked = _picked(pipeline, names, everywhere=everywhere)
    _check(pipeline, picked)
    versions, locks = versions_at(app, pipeline.tree), _Locks()
    for stage in picked.values():
        why = () if stage.is_frozen else tuple(differences(stage, locks.of(stage), versions))
        yield StageState(stage.name, stage.is_frozen, why)


def repro(
    app: Context,
    pipeline: Pipeline,
    names: Sequence[str] = (),
    *,
    everywhere: bool = False,
    jobs: int = 1,
    force: bool = False,
    use_run_cache: bool = True,
    tell: Callable[[str], None] = lambda _line: None,
    note_changed: Callable[[Path], None] = lambda _file: None,
) -> list[StageOutcome]:
    """Run stages that have changed and what they need; return those that were looked at, in that order.

    ``jobs`` stages run at a time. ``force`` runs those that have not changed, too, and takes nothing from the run
    cache; ``everywhere`` means all stages of the repository. `dvc.lock` is written as each ends. `.dvc` files of data
    that has changed are written first, and ``note_changed`` hears of each.

    Raises UsageError for an unknown stage, RepositoryUnfit, and TaskError if a stage fails: those that run are
    finished and noted, others are not begun.
    """
    picked = _picked(pipeline, names, everywhere=everywhere)
    with _alone(pipeline.tree.root):
        _check(pipeline, picked)
        locks, versions = _Locks(), versions_at(app, pipeline.tree)
        for file in update_sources(pipeline.tree, picked.values(), versions):
            tell(f"{file.relative_to(pipeline.tree.root)}: its data has changed")
            note_changed(file)
        run = StageRun(
            pipeline.tree,
            versions,
            {name: locks.of(stage) for name, stage in picked.items()},
            Commands(pipeline.tree.root),
            force=force,
            use_run_cache=use_run_cache,
            tell=tell,
        )
        return _in_threads(run, pipeline, picked, jobs)


def _picked(pipeline: Pipeline, names: Sequence[str], *, everywhere: bool) -> dict[str, Stage]:
    if not names and not everywhere:
        require_here(pipeline)
    return {name: pipeline.stages[name] for name in pipeline.in_order(names, everywhere=everywhere)}


def _in_threads(run: StageRun, pipeline: Pipeline, picked: Mapping[str, Stage], jobs: int) -> list[StageOutcome]:
    """Look at stages, each when those it needs are done."""
    sorter = TopologicalSorter({name: pipeline.needed[name] for name in picked})
    sorter.prepare()
    threads = ThreadPoolExecutor(jobs, thread_name_prefix="fusepkg-stage")
    pending: dict[Future[StageOutcome], str] = {}
    done: list[StageOutcome] = []
    failed: list[FusepkgError] = []
    try:
        while True:
            if not failed:
                pending |= {threads.submit(run.look_at, picked[name]): name for name in sorted(sorter.get_ready())}
            if not pending:
                break
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                name = pending.pop(future)
                if future.cancelled():
                    continue
                try:
                    one = future.result()
                except FusepkgError as exc:
                    failed.append(exc)
                    for other in pending:
                        other.cancel()
                    continue
                if one.entry is not None:
                    write_entry(picked[name].home, picked[name].key, one.entry)
                    ignore_outputs(picked[name])
                done.append(one)
                sorter.done(name)
    except BaseException:
        run.commands.stop()
        raise
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
    if failed:
        for error in failed[1:]:
            run.tell(f"Error: {error.message}")
        raise failed[0]
    return done


def _check(pipeline: Pipeline, picked: Mapping[str, Stage]) -> None:
    """Refuse, before anything runs, what is missing. Outputs of all stages count as there: who makes them runs."""
    for stage in picked.values():
        if stage.refused:
            raise RepositoryUnfit(stage.refused, hint="Run this pipeline with `dvc repro`")
    check_inputs(picked, pipeline.stages)
    made = {stage.place(out.path) for stage in pipeline.stages.values() for out in stage.outs}
    for stage in picked.values():
        if not stage.directory.is_dir():
            raise TaskError(f"stage {stage.name} runs in {stage.directory}, which is no directory")
        if not stage.is_frozen and not any(stage.place(path) in made for path, _ in stage.params):
            values_of(stage)
        for path in (*stage.deps, *(out.path for out in stage.outs)):
            _check_seen(pipeline.tree, stage, path)


def _check_seen(tree: PipelineTree, stage: Stage, path: str) -> None:
    place = stage.place(path)
    if not place.is_relative_to(tree.root) or place == tree.root:
        return
    inside = place.relative_to(tree.root).as_posix()
    if tree.ignores.leaves_out(inside, is_directory=place.is_dir()):
        raise RepositoryUnfit(
            f"stage {stage.name} has {path}, which is left out by a .dvcignore",
            hint="Take it out of one of the two",
        )


class _Locks:
    """What the `dvc.lock` beside each `dvc.yaml` says, each read once."""

    def __init__(self) -> None:
        self._read: dict[Path, dict[str, Any]] = {}

    def of(self, stage: Stage) -> dict[str, Any] | None:
        """Return what is noted of a stage. Raises RepositoryUnfit."""
        if stage.home not in self._read:
            self._read[stage.home] = read_lock(stage.home)
        return self._read[stage.home].get(stage.key)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Hold a repository for one run. Raises TaskError if another has it."""
    held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise TaskError(f"another `fusepkg repro` runs in {directory}", hint="Wait until it has ended") from exc
        yield
    finally:
        os.close(held)
