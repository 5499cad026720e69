"""All pipelines of a repository: their stages, where DVC keeps what it needs, and the stages that a name stands for."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg.dvc.config import CONFIG, Config
from fusepkg.dvc.ignores import Ignores
from fusepkg.errors import RepositoryUnfit, SystemFailure, UsageError
from fusepkg.gitdata.worktree import have_git_ignore
from fusepkg.pipeline.graph import check_outputs, needs
from fusepkg.pipeline.stages import PIPELINE, parse_stages
from fusepkg.work.git import GitFailed, run_git

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fusepkg.pipeline.stages import Stage


@dataclass(frozen=True, slots=True)
class PipelineTree:
    """The working tree at ``root``: what DVC leaves out of it, and where its cache is (None: nowhere)."""

    root: Path
    ignores: Ignores
    cache: Path | None


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The stages of a repository, checked, by how they are named from ``here``, and the stages that each needs."""

    here: Path
    tree: PipelineTree
    stages: Mapping[str, Stage]
    needed: Mapping[str, Sequence[str]]

    def in_order(self, names: Sequence[str] = (), *, everywhere: bool = False) -> list[str]:
        """Return stages and those they need, each after those it needs; by default the ones of ``here``'s `dvc.yaml`.

        ``names`` are stages, groups of them, outputs and `dvc.yaml` files. Raises UsageError for an unknown one.
        """
        waiting = [name for one in names for name in self._named(one)]
        if not names:
            waiting = [name for name, stage in self.stages.items() if everywhere or stage.home == self.here]
        found: dict[str, Sequence[str]] = {}
        while waiting:
            name = waiting.pop()
            if name not in found:
                found[name] = self.needed[name]
                waiting += found[name]
        return list(TopologicalSorter(found).static_order())

    def _named(self, name: str) -> list[str]:
        path, _, _key = name.partition("@")[0].rpartition(":")
        address = "" if posixpath.normpath(path or PIPELINE) == PIPELINE else posixpath.normpath(path)
        wanted = name[len(path) + 1 :] if path or name.startswith(":") else name
        home = os.path.normpath(self.here / (address or PIPELINE))
        found = [
            one
            for one, stage in self.stages.items()
            if str(stage.home / PIPELINE) == home and wanted in (stage.key, stage.group)
        ]
        place = Path(os.path.normpath(self.here / name))
        if not found:
            found = [one for one, stage in self.stages.items() if stage.home / PIPELINE == place]
        if not found:
            found = [
                one for one, stage in self.stages.items() if any(stage.place(out.path) == place for out in stage.outs)
            ]
        if not found:
            known = ", ".join(self.stages) or "none"
            raise UsageError(f"there is no stage {name}", hint=f"The stages that are there: {known}")
        return found


def read_pipeline(here: Path) -> Pipeline:
    """Read and check all `dvc.yaml` of a directory's repository. Raises RepositoryUnfit, MissingExtra."""
    return pipeline_with(here, None)


def pipeline_with(here: Path, text: bytes | None) -> Pipeline:
    """Read them as if the `dvc.yaml` of ``here`` had this text; None: as it is. Raises as ``read_pipeline``."""
    here = here.resolve()
    tree, options = _tree_of(here)
    stages: dict[str, Stage] = {}
    for home in _homes(tree, here):
        address = "" if home == here else posixpath.join(os.path.relpath(home, here), PIPELINE)
        own = text if home == here and text is not None else _read(home)
        if own is not None:
            stages |= {stage.name: stage for stage in parse_stages(own, home, address, options)}
    check_outputs(stages, tree.root)
    return Pipeline(here, tree, stages, needs(stages))


def require_here(pipeline: Pipeline) -> None:
    """Raise RepositoryUnfit if the directory has no `dvc.yaml`, which a command without names is about."""
    if not (pipeline.here / PIPELINE).exists():
        raise RepositoryUnfit(
            f"{pipeline.here} has no {PIPELINE}",
            hint="`fusepkg stage add` begins one; those of other directories are named: `fusepkg repro DIR/dvc.yaml`",
        )


def ignore_outputs(stage: Stage) -> list[str]:
    """Have git ignore the outputs that DVC's cache keeps; return the files that say so, as seen from the stage."""
    here = stage.directory.resolve()
    if not any((above / ".git").exists() for above in (here, *here.parents)):
        return []
    ignored = set()
    for out in stage.outs:
        if out.is_cached:
            place = stage.place(out.path)
            place.parent.mkdir(parents=True, exist_ok=True)
            have_git_ignore(place)
            ignored.add(str(Path(out.path).parent / ".gitignore"))
    return sorted(ignored)


def _tree_of(here: Path) -> tuple[PipelineTree, dict[str, str]]:
    """Return the working tree of a directory: of DVC's repository, else of git's, else itself; DVC's `[parsing]`."""
    above = [here, *here.parents]
    root = next((one for mark in (CONFIG, ".git") for one in above if (one / mark).exists()), here)
    if (root / CONFIG).exists():
        config = Config((root / CONFIG).read_text(errors="replace"), root, str(root))
        return PipelineTree(root, Ignores.of_tree(root), config.cache_directory(root)), config.section("parsing")
    cache = None
    if (root / ".git").exists():
        try:
            said = run_git(root, "rev-parse", "--path-format=absolute", "--git-common-dir")
            cache = Path(os.fsdecode(said.removesuffix(b"\n")), "fusepkg/cache")
        except (GitFailed, SystemFailure):
            cache = None
    return PipelineTree(root, Ignores.of_tree(root), cache), {}


def _homes(tree: PipelineTree, here: Path) -> list[Path]:
    """Return the directories with a `dvc.yaml`, ``here`` first; not those of repositories of DVC within this one."""
    try:
        listed = run_git(tree.root, "ls-files", "-z", "-co", "--exclude-standard", "--", f":(glob)**/{PIPELINE}")
        found = [tree.root / os.path.dirname(os.fsdecode(one)) for one in listed.split(b"\0")[:-1]]
    except (GitFailed, SystemFailure):
        found = list(_walk(tree))
    return [here, *sorted({home for home in found if home != here and _is_seen(tree, home)})]


def _walk(tree: PipelineTree) -> Iterator[Path]:
    for directory, below, names in os.walk(tree.root):
        below[:] = [
            name
            for name in below
            if not name.startswith(".git") and name != ".dvc" and not os.path.ismount(os.path.join(directory, name))
        ]
        if PIPELINE in names:
            yield Path(directory)


def _is_seen(tree: PipelineTree, home: Path) -> bool:
    above = [one for one in (home, *home.parents) if one != tree.root and one.is_relative_to(tree.root)]
    inside = (home / PIPELINE).relative_to(tree.root).as_posix()
    return not any((one / CONFIG).exists() for one in above) and not tree.ignores.leaves_out(inside, is_directory=False)


def _read(home: Path) -> bytes | None:
    try:
        return (home / PIPELINE).read_bytes()
    except FileNotFoundError:  # removed, and git does not know yet
        return None
