"""Adding to a `dvc.yaml` without touching the rest of the file."""

from __future__ import annotations

import io
import posixpath
import re
from typing import TYPE_CHECKING, Any

from fusepkg.dvc.files import parse_yaml
from fusepkg.dvc.templates import PARAMS
from fusepkg.dvc.yaml_file import read_yaml_file
from fusepkg.errors import UsageError
from fusepkg.gitdata.worktree import write_whole
from fusepkg.pipeline.stages import PIPELINE, check_top

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from fusepkg.pipeline.stages import Out

_NAME = re.compile(r"[\w-]+")
_LINE_WIDTH = 1 << 20  # so that a long command stays on one line


def add_stage(
    directory: Path,
    name: str,
    command: str,
    deps: Iterable[str],
    outs: Sequence[Out],
    params: Sequence[str],
    force: bool,
) -> bytes:
    """Return the text of the `dvc.yaml` with one more stage, comments and order as they were. Nothing is written.

    ``params`` are `KEY[,KEY...]` of `params.yaml`, or `FILE:[KEY,...]`. With ``force`` one of that
    name is replaced. Raises UsageError, RepositoryUnfit, MissingExtra.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be the name of a stage", hint="Use letters, digits, - and _")
    text = (directory / PIPELINE).read_bytes() if (directory / PIPELINE).exists() else b"stages: {}\n"
    document = read_yaml_file(text, PIPELINE)
    check_top(document)
    if name in ((document.content or {}).get("stages") or {}) and not force:
        raise UsageError(f"{PIPELINE} has a stage {name} already", hint="--force replaces it")
    content = parse_yaml(text, PIPELINE, "rt") or {}
    if not content.get("stages"):
        content["stages"] = {}
    kept = sorted(outs, key=lambda out: _normal(out.path))
    parts = {
        "deps": sorted({_normal(path) for path in deps}),
        "params": [one for param in params for one in _param(param)],
        "outs": [_normal(out.path) if out.is_cached else {_normal(out.path): {"cache": False}} for out in kept],
    }
    content["stages"][name] = {"cmd": command} | {key: value for key, value in parts.items() if value}
    return yaml_bytes(content, _LINE_WIDTH)


def write_pipeline(directory: Path, text: bytes) -> None:
    """Write a `dvc.yaml`, as a whole or not at all."""
    write_whole(directory / PIPELINE, text.decode())


def yaml_bytes(content: Any, width: int | None = None) -> bytes:  # noqa: ANN401 - YAML
    """Return YAML as DVC writes it: one entry a line, unless it was read otherwise. ``width`` is not DVC's."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = width
    written = io.BytesIO()
    yaml.dump(content, written)
    return written.getvalue()


def _normal(path: str) -> str:
    return posixpath.normpath(path)


def _param(text: str) -> list[Any]:
    path, colon, keys = text.rpartition(":")
    names = [key for key in keys.split(",") if key]
    if colon and path != PARAMS:
        return [{path: names or None}]
    if not names:
        raise UsageError(f"{text!r} names no parameter", hint="Write KEY,KEY or FILE:KEY,KEY")
    return list(names)
