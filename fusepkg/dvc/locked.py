"""What a `dvc.lock` says that the stages of its `dvc.yaml` have made."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fusepkg.dvc.files import Output, as_list, as_mapping, directory_of, output_of, parse_yaml
from fusepkg.dvc.templates import Variables, expand
from fusepkg.dvc.yaml_file import read_yaml_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_TEMPLATE = "${"


def outputs_of_lock(
    pipeline: bytes, lock: bytes, name: str, read: Callable[[str], bytes | None] = lambda _path: None
) -> Iterator[Output]:
    """Yield the outputs of the stages of a `dvc.yaml` (``name``), as its `dvc.lock` has them.

    ``read`` gives files that its templates use, as for ``Variables``. Stages that were never run, and those of older
    pipelines that the lock remembers, have no outputs. Raises RepositoryUnfit.
    """
    lock_name = posixpath.join(posixpath.dirname(name), "dvc.lock")
    locked = as_mapping(parse_yaml(lock, lock_name) or {}, lock_name)
    locked = as_mapping(locked["stages"] if "schema" in locked else locked, lock_name)
    stages = as_mapping(as_mapping(parse_yaml(pipeline, name) or {}, name).get("stages") or {}, name)
    for stage_name, entry in locked.items():
        stage = stages.get(stage_name, stages.get(stage_name.partition("@")[0]))
        if stage is None:
            continue
        stage = as_mapping(stage, name)
        stage = as_mapping(stage.get("do", stage), name)
        if _TEMPLATE in str(stage.get("wdir")) or _remotes_of(stage, ".", having=_TEMPLATE):
            group = stage_name if stage_name in stages else stage_name.partition("@")[0]
            filled = expand(read_yaml_file(pipeline, name), Variables(read, {}), group)
            stage = next((one.entry for one in filled if one.name == stage_name), None)
            if stage is None:
                continue
        directory = directory_of(name, stage)
        remotes = _remotes_of(stage, directory)
        for out in as_list(as_mapping(entry, lock_name).get("outs"), lock_name):
            found = output_of(as_mapping(out, lock_name), directory, lock_name, None)
            if found is not None:
                yield replace(found, remote=remotes.get(found.path, ""))


def _remotes_of(stage: dict[str, Any], directory: str, *, having: str = "") -> dict[str, str]:
    """Return the remotes that a stage names for single outputs, by path; only outputs that have some text in them."""
    found = {}
    for kind in ("outs", "metrics", "plots"):
        outs = stage.get(kind)
        for out in outs if isinstance(outs, list) else ():
            for path, options in out.items() if isinstance(out, dict) else ():
                has_remote = isinstance(options, dict) and isinstance(options.get("remote"), str)
                if has_remote and having in f"{path}{options['remote']}":
                    found[posixpath.normpath(posixpath.join(directory, path))] = options["remote"]
    return found
