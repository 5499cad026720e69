"""One stage: looked at, taken from the run cache or run, and its outputs kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fusepkg.errors import TaskError
from fusepkg.pipeline import run_cache
from fusepkg.pipeline.graph import check_inputs
from fusepkg.pipeline.hashes import hash_path
from fusepkg.pipeline.lock import differences, entry_of, md5_of
from fusepkg.pipeline.params import values_of
from fusepkg.pipeline.versions import remove

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fusepkg.pipeline.commands import Commands
    from fusepkg.pipeline.hashes import OutputHash
    from fusepkg.pipeline.repository import PipelineTree
    from fusepkg.pipeline.stages import Stage
    from fusepkg.pipeline.urls import UrlFact
    from fusepkg.pipeline.versions import Versions


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """A stage that was looked at: ``has_run``, and what is noted in `dvc.lock` if it did or the run cache gave it."""

    name: str
    has_run: bool = False
    entry: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class StageRun:
    """Looks at the stages of one run; ``locked`` is what `dvc.lock` said of each before it. Safe for many threads."""

    tree: PipelineTree
    versions: Versions
    locked: Mapping[str, Mapping[str, Any] | None]
    commands: Commands
    force: bool
    use_run_cache: bool
    tell: Callable[[str], None]

    def look_at(self, stage: Stage) -> StageOutcome:
        """Run a stage if it has changed. Raises TaskError, RepositoryUnfit, and what hashing raises."""
        if stage.is_frozen:
            self.tell(f"{stage.name} is frozen")
            return StageOutcome(stage.name)
        locked = self.locked[stage.name]
        why = ["it was asked for"] if self.force else differences(stage, locked, self.versions)
        if not why:
            self.tell(f"{stage.name} is up to date")
            return StageOutcome(stage.name)
        check_inputs({stage.name: stage})
        deps: dict[str, OutputHash | UrlFact] = {path: self.versions.hash(stage.place(path)) for path in stage.deps}
        deps |= {url: self.versions.fact(url) for url in stage.urls}
        params = values_of(stage)
        wanted = entry_of(stage, deps, params, {}) | {"outs": [{"path": out.path} for out in stage.outs]}
        if not self.force:
            for entry in self._known(stage, wanted, locked):
                if self._restore(stage, entry):
                    self.tell(f"{stage.name} is taken from the run cache: {', '.join(why)}")
                    return self._finish(stage, deps, params, has_run=False)
        self.tell(f"{stage.name} runs: {', '.join(why)}")
        self._clear(stage)
        self.commands.run(stage)
        return self._finish(stage, deps, params, has_run=True)

    def _known(
        self, stage: Stage, wanted: Mapping[str, Any], locked: Mapping[str, Any] | None
    ) -> Iterator[Mapping[str, Any]]:
        """Yield what the stage gave before with the same inputs: as `dvc.lock` says, then as the run cache does."""
        if self.tree.cache is None or not run_cache.is_kept(stage, self._tracked(stage)):
            return
        if locked is not None and run_cache.is_same(locked, wanted):
            yield locked
        if self.use_run_cache:
            yield from run_cache.find(self.tree.cache, wanted)

    def _restore(self, stage: Stage, entry: Mapping[str, Any]) -> bool:
        """Put all outputs back as an entry has them; those that are so already stay."""
        assert self.tree.cache is not None, "the entry came from there"
        facts = {fact["path"]: fact for fact in entry["outs"]}
        for out in stage.outs:
            place, md5 = stage.place(out.path), md5_of(facts[out.path])
            self.versions.refuse_mounted(place, stage.name)
            if md5 is None:
                return False
            if place.exists() and self.versions.hash(place).md5 == md5:
                continue
            remove(place)
            if self.versions.is_tracked(place) and self.versions.restore(place, md5):
                continue
            if not run_cache.restore(self.tree.cache, {**facts[out.path], "md5": md5}, place):
                return False
        return True

    def _clear(self, stage: Stage) -> None:
        for out in stage.outs:
            place = stage.place(out.path)
            self.versions.refuse_mounted(place, stage.name)
            if not out.persists:
                remove(place)

    def _finish(
        self,
        stage: Stage,
        deps: Mapping[str, OutputHash | UrlFact],
        params: Mapping[str, Mapping[str, Any]],
        *,
        has_run: bool,
    ) -> StageOutcome:
        """Keep the outputs of a stage: in the cache, or as versions; return what is noted of it.

        Raises TaskError if one is missing, and what hashing and tracking raise.
        """
        outs: dict[str, OutputHash] = {}
        tracked = self._tracked(stage)
        is_kept = run_cache.is_kept(stage, tracked)
        for out in stage.outs:
            place = stage.place(out.path)
            if not place.exists():
                raise TaskError(
                    f"stage {stage.name} ended without an error, but {out.path} is not there",
                    hint="Its command has to write all its outputs",
                )
            is_copied = out.is_cached or (is_kept and out.path not in tracked)
            cache = self.tree.cache if is_copied else None
            outs[out.path] = hash_path(place, self.tree.root, self.tree.ignores, cache)
            if out.path in tracked:
                pointer = self.versions.keep(place, outs[out.path].md5)
                self.tell(f"{out.path} is version {pointer.top_hash[:8]} of {pointer.package}")
        entry = entry_of(stage, deps, params, outs)
        if is_kept and self.tree.cache is not None:
            run_cache.keep(self.tree.cache, entry)
        return StageOutcome(stage.name, has_run, entry)

    def _tracked(self, stage: Stage) -> set[str]:
        return {out.path for out in stage.outs if self.versions.is_tracked(stage.place(out.path))}
