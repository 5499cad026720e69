"""How the stages of a pipeline hang together, and what is refused before any of them runs."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from fusepkg.errors import RepositoryUnfit, UsageError
from fusepkg.gitdata.pointer import SUFFIX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from fusepkg.pipeline.stages import Stage

_OURS = (".git", ".dvc")


def check_outputs(stages: Mapping[str, Stage], root: Path) -> None:
    """Refuse outputs that cannot be: two of one place, one in another, or a place that a run may not replace.

    ``root`` is the top of the repository. Raises RepositoryUnfit.
    """
    made: dict[Path, str] = {}
    for stage in stages.values():
        for out in stage.outs:
            place = stage.place(out.path)
            inside = place.relative_to(root).parts if place.is_relative_to(root) else ()
            if not inside or set(inside) & set(_OURS) or stage.directory.resolve().is_relative_to(place):
                raise RepositoryUnfit(
                    f"stage {stage.name} has the output {out.path}, which is no file or directory of its own in {root}",
                    hint="A run replaces its outputs: name paths below the repository, not what holds the pipeline",
                )
            for other, name in made.items():
                if _overlap(place, other):
                    what = "the output" if place == other else "outputs one in the other:"
                    whose = f"stages {name} and {stage.name} have" if name != stage.name else f"stage {name} has twice"
                    raise RepositoryUnfit(f"{whose} {what} {out.path}", hint="Each output is made by one stage")
            made[place] = stage.name


def needs(stages: Mapping[str, Stage]) -> dict[str, list[str]]:
    """Return the stages whose outputs each stage depends on. Raises RepositoryUnfit for a circle, with its stages."""
    makers = [(stage.place(out.path), stage.name) for stage in stages.values() for out in stage.outs]
    found = {}
    for stage in stages.values():
        places = [stage.place(path) for path in stage.inputs]
        found[stage.name] = sorted({name for made, name in makers if any(_overlap(made, place) for place in places)})
    try:
        TopologicalSorter(found).prepare()
    except CycleError as exc:
        raise RepositoryUnfit(
            f"the stages depend on each other in a circle: {' -> '.join(exc.args[1])}",
            hint="Take one of these out of the dependencies or outputs",
        ) from exc
    return found


def chosen(needed: Mapping[str, Sequence[str]], names: Sequence[str]) -> set[str]:
    """Return stages and all that they need; without names, all stages. Raises UsageError for an unknown one."""
    for name in names:
        if name not in needed:
            known = ", ".join(needed) or "none"
            raise UsageError(f"there is no stage {name}", hint=f"The stages of dvc.yaml: {known}")
    found: set[str] = set()
    waiting = list(names or needed)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += needed[name]
    return found


def check_inputs(stages: Mapping[str, Stage]) -> None:
    """Refuse dependencies that are not there and that no stage makes. Raises RepositoryUnfit."""
    made = [stage.place(out.path) for stage in stages.values() for out in stage.outs]
    for stage in stages.values():
        for path in stage.inputs:
            place = stage.place(path)
            if place.exists() or any(_overlap(place, other) for other in made):
                continue
            beside = {end: place.with_name(place.name + end).exists() for end in (SUFFIX, ".dvc")}
            hint = "Put it there, or correct dvc.yaml"
            if beside[SUFFIX]:
                hint = f"`fusepkg checkout {path}` brings it"
            elif beside[".dvc"]:
                hint = f"`dvc pull {path}.dvc` brings it"
            raise RepositoryUnfit(f"stage {stage.name} depends on {path}, which is not there", hint=hint)


def _overlap(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)
