"""How the stages of a pipeline hang together, and what is refused before any of them runs."""

from __future__ import annotations

from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from fusepkg.errors import RepositoryUnfit
from fusepkg.gitdata.pointer import SUFFIX

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fusepkg.pipeline.stages import Stage

_OURS = (".git", ".dvc")


def check_outputs(stages: Mapping[str, Stage], root: Path) -> None:
    """Refuse outputs that cannot be: two of one place, one in another, or a place that a run may not replace.

    ``root`` is the top of the repository. Raises RepositoryUnfit.
    """
    made = _Places()
    for stage in stages.values():
        for out in stage.outs:
            place = stage.place(out.path)
            inside = place.relative_to(root).parts if place.is_relative_to(root) else ()
            homes = (stage.directory.resolve(), stage.home.resolve())
            if not inside or set(inside) & set(_OURS) or any(one.is_relative_to(place) for one in homes):
                raise RepositoryUnfit(
                    f"stage {stage.name} has the output {out.path}, which is no file or directory of its own in {root}",
                    hint="A run replaces its outputs: name paths below the repository, not what holds the pipeline",
                )
            for name in sorted(made.overlapping(place)):
                what = "the output" if place in made.at else "outputs one in the other:"
                whose = f"stages {name} and {stage.name} have" if name != stage.name else f"stage {name} has twice"
                raise RepositoryUnfit(f"{whose} {what} {out.path}", hint="Each output is made by one stage")
            made.add(place, stage.name)


def needs(stages: Mapping[str, Stage]) -> dict[str, list[str]]:
    """Return the stages whose outputs each stage depends on; a frozen one waits for none.

    Raises RepositoryUnfit for a circle, with its stages.
    """
    makers = _outputs(stages)
    found: dict[str, list[str]] = {}
    frozen: set[str] = set()
    for stage in stages.values():
        found[stage.name] = sorted({name for path in stage.inputs for name in makers.overlapping(stage.place(path))})
        if stage.is_frozen:
            frozen.add(stage.name)
    try:
        TopologicalSorter(found).prepare()
    except CycleError as exc:
        raise RepositoryUnfit(
            f"the stages depend on each other in a circle: {' -> '.join(exc.args[1])}",
            hint="Take one of these out of the dependencies or outputs",
        ) from exc
    return {name: [] if name in frozen else needed for name, needed in found.items()}


def check_inputs(stages: Mapping[str, Stage], makers: Mapping[str, Stage] | None = None) -> None:
    """Refuse dependencies that are not there and that none of ``makers`` makes. Raises RepositoryUnfit."""
    made = _outputs(makers or {})
    for stage in stages.values():
        if stage.is_frozen:
            continue
        for path in stage.inputs:
            place = stage.place(path)
            if place.exists() or made.overlapping(place):
                continue
            beside = {end: place.with_name(place.name + end).exists() for end in (SUFFIX, ".dvc")}
            hint = "Put it there, or correct dvc.yaml"
            if beside[SUFFIX]:
                hint = f"`fusepkg checkout {path}` brings it"
            elif beside[".dvc"]:
                hint = f"`dvc pull {path}.dvc` brings it"
            raise RepositoryUnfit(f"stage {stage.name} depends on {path}, which is not there", hint=hint)


def _outputs(stages: Mapping[str, Stage]) -> _Places:
    found = _Places()
    for stage in stages.values():
        for out in stage.outs:
            found.add(stage.place(out.path), stage.name)
    return found


class _Places:
    """Paths with the stages that make them."""

    def __init__(self) -> None:
        self.at: defaultdict[Path, set[str]] = defaultdict(set)
        self._below: defaultdict[Path, set[str]] = defaultdict(set)

    def add(self, place: Path, name: str) -> None:
        """Note that a stage makes a path."""
        self.at[place].add(name)
        for above in place.parents:
            self._below[above].add(name)

    def overlapping(self, place: Path) -> set[str]:
        """Return the stages that make a path, what lies in it, or what it lies in."""
        above = (self.at.get(one, ()) for one in (place, *place.parents))
        return set().union(self._below.get(place, ()), *above)
