"""`.dvc` files of data that stages depend on: brought up to date before a run, as `dvc repro` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fusepkg.dvc.files import parse_yaml
from fusepkg.gitdata.worktree import write_whole
from fusepkg.pipeline.adding import yaml_bytes
from fusepkg.pipeline.hashes import hash_path
from fusepkg.pipeline.lock import md5_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from fusepkg.pipeline.repository import PipelineTree
    from fusepkg.pipeline.stages import Stage
    from fusepkg.pipeline.versions import Versions

END = ".dvc"


def update_sources(tree: PipelineTree, stages: Iterable[Stage], versions: Versions) -> list[Path]:
    """Note in `.dvc` files that data has changed, and keep it in DVC's cache; return those files.

    Imported and frozen data stay as they are noted. Raises RepositoryUnfit, and what hashing raises.
    """
    if tree.cache is None:
        return []
    found: dict[Path, Path] = {}
    for stage in stages:
        for dep in () if stage.is_frozen else stage.deps:
            place = stage.place(dep)
            for one in (place, *place.parents):
                if one == tree.root or not one.is_relative_to(tree.root):
                    break
                file = one.with_name(one.name + END)
                if file.is_file() and one.exists():
                    found[file] = one
                    break
    return [file for file, place in found.items() if _has_changed(file, place, tree, versions)]


def _has_changed(file: Path, place: Path, tree: PipelineTree, versions: Versions) -> bool:
    content = parse_yaml(file.read_bytes(), file.name, "rt")
    out = _only_output(content, place.name)
    if out is None or versions.hash(place).md5 == md5_of(out):
        return False
    hashed = hash_path(place, tree.root, tree.ignores, tree.cache if out.get("cache", True) else None)
    for key in ("nfiles", "isexec"):
        out.pop(key, None)
    out.update({"md5": hashed.md5, "size": hashed.size, "hash": "md5"})
    if hashed.nfiles is not None:
        out["nfiles"] = hashed.nfiles
    if hashed.isexec:
        out["isexec"] = True
    write_whole(file, yaml_bytes(content).decode())
    return True


def _only_output(content: Any, name: str) -> Any | None:  # noqa: ANN401 - YAML
    """Return the one output of data that `dvc add` has noted; None for anything else."""
    if not isinstance(content, dict) or "deps" in content or "wdir" in content or content.get("frozen"):
        return None
    outs = content.get("outs")
    if not isinstance(outs, list) or len(outs) != 1 or not isinstance(outs[0], dict):
        return None
    is_plain = outs[0].get("path") == name and not {"files", "cloud", "version_id"} & set(outs[0])
    return outs[0] if is_plain else None
