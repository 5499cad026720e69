"""Running a pipeline: each stage whose inputs have changed, after those it needs; side by side where none waits."""

from __future__ import annotations

import fcntl
import os
import shutil
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

from fusepkg.errors import FusepkgError, TaskError
from fusepkg.pipeline.commands import Commands
from fusepkg.pipeline.graph import check_inputs, check_outputs, chosen, needs
from fusepkg.pipeline.hashes import cache_of, check_ignores, hash_path, root_of
from fusepkg.pipeline.lock import differences, entry_of, read_lock, write_entry
from fusepkg.pipeline.params import values_of
from fusepkg.pipeline.stages import read_stages
from fusepkg.pipeline.versions import versions_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from fusepkg.app.context import Context
    from fusepkg.pipeline.hashes import OutputHash
    from fusepkg.pipeline.stages import Stage
    from fusepkg.pipeline.versions import Versions


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The stages of one `dvc.yaml`, checked, and the stages that each needs."""

    directory: Path
    root: Path
    stages: Mapping[str, Stage]
    needed: Mapping[str, list[str]]

    def in_order(self) -> list[str]:
        """Return the names of all stages, each after those it needs."""
        return list(TopologicalSorter(self.needed).static_order())


@dataclass(frozen=True, slots=True)
class StageState:
    """How a stage is: ``why`` it has to run, for people; empty if it is up to date. A frozen one never has to."""

    name: str
    is_frozen: bool
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """A stage that was looked at: ``has_run``, and what is noted in `dvc.lock` of it then."""

    name: str
    has_run: bool
    entry: Mapping[str, Any]


def pipeline_of(directory: Path, stages: Mapping[str, Stage]) -> Pipeline:
    """Check stages of a `dvc.yaml`. Raises RepositoryUnfit."""
    root = root_of(directory)
    check_outputs(stages, root)
    return Pipeline(directory, root, stages, needs(stages))


def read_pipeline(directory: Path) -> Pipeline:
    """Read and check the `dvc.yaml` of a directory. Raises RepositoryUnfit, MissingExtra."""
    return pipeline_of(directory, read_stages(directory))


def states(app: Context, pipeline: Pipeline) -> Iterator[StageState]:
    """Yield how each stage is, in the order in which they run. What a stage before it would change does not count.

    Raises RepositoryUnfit, and what hashing raises.
    """
    _check(pipeline, pipeline.stages)
    versions, locked = versions_at(app, pipeline.directory), read_lock(pipeline.directory)
    for name in pipeline.in_order():
        stage = pipeline.stages[name]
        why = () if stage.is_frozen else tuple(differences(stage, locked.get(name), versions))
        yield StageState(name, stage.is_frozen, why)


def repro(
    app: Context,
    pipeline: Pipeline,
    names: Sequence[str] = (),
    *,
    jobs: int = 1,
    force: bool = False,
    tell: Callable[[str], None] = lambda _line: None,
) -> list[StageOutcome]:
    """Run stages that have changed and what they need; return those that were looked at, in that order.

    ``jobs`` stages run at a time. ``force`` runs those that have not changed, too. `dvc.lock` is written as each ends.

    Raises UsageError for an unknown stage, RepositoryUnfit, and TaskError if a stage fails: those that run are
    finished and noted, others are not begun.
    """
    wanted = chosen(pipeline.needed, names)
    picked = {name: stage for name, stage in pipeline.stages.items() if name in wanted}
    with _alone(pipeline.directory):
        _check(pipeline, picked)
        run = _Run(
            pipeline,
            versions_at(app, pipeline.directory),
            read_lock(pipeline.directory),
            cache_of(pipeline.root),
            Commands(pipeline.root),
            force,
            tell,
        )
        return _in_threads(run, wanted, jobs)


def _in_threads(run: _Run, wanted: set[str], jobs: int) -> list[StageOutcome]:
    """Look at stages, each when those it needs are done."""
    sorter = TopologicalSorter({name: run.pipeline.needed[name] for name in wanted})
    sorter.prepare()
    threads = ThreadPoolExecutor(jobs, thread_name_prefix="fusepkg-stage")
    pending: dict[Future[StageOutcome], str] = {}
    done: list[StageOutcome] = []
    failed: list[FusepkgError] = []
    try:
        while True:
            if not failed:
                pending |= {threads.submit(run.look_at, name): name for name in sorted(sorter.get_ready())}
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
                if one.has_run:
                    write_entry(run.pipeline.directory, name, one.entry)
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


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of a pipeline; ``locked`` is what `dvc.lock` said before it. Safe for many threads."""

    pipeline: Pipeline
    versions: Versions
    locked: Mapping[str, Any]
    cache: Path | None
    commands: Commands
    force: bool
    tell: Callable[[str], None]

    def look_at(self, name: str) -> StageOutcome:
        """Run a stage if it has changed. Raises TaskError, RepositoryUnfit, and what hashing raises."""
        stage = self.pipeline.stages[name]
        if stage.is_frozen:
            self.tell(f"{name} is frozen")
            return StageOutcome(name, False, {})
        why = ["it was asked for"] if self.force else differences(stage, self.locked.get(name), self.versions)
        if not why:
            self.tell(f"{name} is up to date")
            return StageOutcome(name, False, {})
        self.tell(f"{name} runs: {', '.join(why)}")
        return StageOutcome(name, True, self._run(stage))

    def _run(self, stage: Stage) -> dict[str, Any]:
        """Run a stage; return what is noted of it. Its inputs are hashed before, so that a change meanwhile shows."""
        check_inputs({stage.name: stage})
        deps = {path: self.versions.hash(stage.place(path)) for path in stage.deps}
        params = values_of(stage)
        for out in stage.outs:
            place = stage.place(out.path)
            self.versions.refuse_mounted(place, stage.name)
            if not out.persists:
                _remove(place)
        self.commands.run(stage)
        outs: dict[str, OutputHash] = {}
        for out in stage.outs:
            place = stage.place(out.path)
            if not place.exists():
                raise TaskError(
                    f"stage {stage.name} ended without an error, but {out.path} is not there",
                    hint="Its command has to write all its outputs",
                )
            outs[out.path] = hash_path(place, self.cache if out.is_cached else None)
        return entry_of(stage, deps, params, outs)


def _check(pipeline: Pipeline, picked: Mapping[str, Stage]) -> None:
    """Refuse, before anything runs, what is missing. Outputs of all stages count as there: who makes them runs."""
    check_inputs(picked)
    made = {pipeline.stages[name].place(out.path) for name in pipeline.stages for out in pipeline.stages[name].outs}
    for stage in picked.values():
        if not stage.directory.is_dir():
            raise TaskError(f"stage {stage.name} runs in {stage.directory}, which is no directory")
        if not any(stage.place(path) in made for path, _ in stage.params):
            values_of(stage)
    places = [stage.place(path) for stage in picked.values() for path in stage.deps]
    places += [stage.place(out.path) for stage in picked.values() for out in stage.outs]
    check_ignores(pipeline.root, places)


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Hold the directory of a pipeline for one run. Raises TaskError if another has it."""
    held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise TaskError(f"another `fusepkg repro` runs in {directory}", hint="Wait until it has ended") from exc
        yield
    finally:
        os.close(held)
