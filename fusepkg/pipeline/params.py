"""Parameters: values in YAML, JSON, TOML and Python files that a stage depends on, each by its key."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fusepkg.dvc.values import read_values
from fusepkg.errors import RepositoryUnfit

if TYPE_CHECKING:
    from pathlib import Path

    from fusepkg.pipeline.stages import Stage


def values_of(stage: Stage) -> dict[str, dict[str, Any]]:
    """Return the values of a stage's parameters, by file and key, as `dvc.lock` has them.

    Raises RepositoryUnfit, with the key or file that is missing or cannot be read.
    """
    return {path: _values(stage, path, keys) for path, keys in stage.params}


def _values(stage: Stage, path: str, keys: tuple[str, ...] | None) -> dict[str, Any]:
    content = _read(stage.place(path), path)
    if keys is None:
        found = dict(sorted(content.items()))
    else:
        found = {key: _find(content, key, f"stage {stage.name} depends on {path}:{key}") for key in sorted(keys)}
    for key, value in found.items():
        try:
            json.dumps(value)
        except TypeError as exc:
            raise RepositoryUnfit(
                f"the parameter {path}:{key} is neither text, number, list nor mapping: {value}",
                hint="Dates and sets are no parameters: put the value in quotes, or make it a list",
            ) from exc
    return found


def _find(content: Any, key: str, where: str) -> Any:  # noqa: ANN401 - what the file holds
    at = content
    for part in key.split("."):
        if isinstance(at, dict) and part in at:
            at = at[part]
        elif isinstance(at, list) and part.isdecimal() and int(part) < len(at):
            at = at[int(part)]
        else:
            raise RepositoryUnfit(f"{where}, and there is no {part!r}", hint="Put it into the file, or take it out")
    return at


def _read(file: Path, name: str) -> dict[str, Any]:
    try:
        text = file.read_bytes()
    except FileNotFoundError as exc:
        raise RepositoryUnfit(f"the file of parameters {name} is not there", hint="Put it there") from exc
    return read_values(text, name)
