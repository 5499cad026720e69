"""The stages of a `dvc.yaml`: read, checked, and added to without touching the rest of the file."""

from __future__ import annotations

import io
import os
import posixpath
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusepkg.dvc.files import parse_yaml
from fusepkg.errors import RepositoryUnfit, UsageError
from fusepkg.gitdata.worktree import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PIPELINE = "dvc.yaml"
PARAMS = "params.yaml"

_NAME = re.compile(r"[\w-]+")
_KEYS = {"cmd", "wdir", "deps", "params", "outs", "metrics", "plots", "frozen", "always_changed", "meta", "desc"}
_TOP_KEYS = {"stages", "plots", "metrics", "params", "artifacts"}
_TEMPLATE = "${"
_LINE_WIDTH = 1 << 20  # so that a long command stays on one line


@dataclass(frozen=True, slots=True)
class Out:
    """One output. ``is_cached``: DVC keeps a copy of it in its cache; ``persists``: it is not removed before a run."""

    path: str
    is_cached: bool = True
    persists: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage; paths are as the file has them, relative to ``directory``.

    ``command`` is one text or several. ``params`` has the keys wanted of each file; None: all of it.
    """

    name: str
    directory: Path
    command: str | list[str]
    deps: tuple[str, ...] = ()
    outs: tuple[Out, ...] = ()
    params: tuple[tuple[str, tuple[str, ...] | None], ...] = ()
    is_frozen: bool = False
    always_runs: bool = False

    def place(self, path: str) -> Path:
        """Return where a path of the stage lies; symbolic links above it are followed."""
        whole = Path(os.path.abspath(self.directory / path))
        return whole.parent.resolve() / whole.name

    @property
    def inputs(self) -> tuple[str, ...]:
        """Dependencies and files of parameters."""
        return (*self.deps, *(path for path, _ in self.params))


def read_stages(directory: Path) -> dict[str, Stage]:
    """Read the `dvc.yaml` of a directory. Raises RepositoryUnfit, with the stage that is wrong; MissingExtra."""
    path = directory / PIPELINE
    try:
        text = path.read_bytes()
    except FileNotFoundError as exc:
        raise RepositoryUnfit(f"{directory} has no {PIPELINE}", hint="`fusepkg stage add` begins one") from exc
    return _stages_of(text, directory)


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
    known = _stages_of(text, directory)
    if name in known and not force:
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
    return yaml_bytes(content)


def write_pipeline(directory: Path, text: bytes) -> None:
    """Write a `dvc.yaml`, as a whole or not at all."""
    write_whole(directory / PIPELINE, text.decode())


def yaml_bytes(content: Any) -> bytes:  # noqa: ANN401 - YAML
    """Return YAML as DVC writes it: one entry a line, unless it was read otherwise."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = _LINE_WIDTH
    written = io.BytesIO()
    yaml.dump(content, written)
    return written.getvalue()


def parse_stages(text: bytes, directory: Path) -> dict[str, Stage]:
    """Read the text of a `dvc.yaml`. Raises as ``read_stages``."""
    return _stages_of(text, directory)


def _stages_of(text: bytes, directory: Path) -> dict[str, Stage]:
    content = parse_yaml(text, PIPELINE, "safe") or {}
    if not isinstance(content, dict):
        raise RepositoryUnfit(f"{PIPELINE} is no mapping with `stages`")
    if unknown := set(content) - _TOP_KEYS:
        raise _unread(PIPELINE, unknown)
    stages = content.get("stages") or {}
    if not isinstance(stages, dict):
        raise RepositoryUnfit(f"`stages` of {PIPELINE} is no mapping")
    return {str(name): _stage(str(name), entry, directory) for name, entry in stages.items()}


def _stage(name: str, entry: Any, directory: Path) -> Stage:  # noqa: ANN401 - YAML
    where = f"stage {name} of {PIPELINE}"
    if not _NAME.fullmatch(name):
        raise RepositoryUnfit(f"{where}: names are made of letters, digits, - and _")
    if not isinstance(entry, dict):
        raise RepositoryUnfit(f"{where} is no mapping")
    if unknown := set(entry) - _KEYS:
        raise _unread(where, unknown)
    if _TEMPLATE in str({key: value for key, value in entry.items() if key not in ("meta", "desc")}):
        raise RepositoryUnfit(
            f"{where} has `{_TEMPLATE}...}}`, a template of DVC, which fusepkg does not fill in",
            hint="Run it with `dvc repro`; a variable of the shell can be written $NAME",
        )
    command = entry.get("cmd")
    lines = command if isinstance(command, list) else [command]
    if not lines or not all(isinstance(line, str) and line.strip() for line in lines):
        raise RepositoryUnfit(f"{where} has no command: `cmd`")
    wdir = entry.get("wdir") or "."
    if not isinstance(wdir, str):
        raise RepositoryUnfit(f"{where}: `wdir` is no path")
    outs = [out for kind in ("outs", "metrics", "plots") for out in _list(entry, kind, where)]
    return Stage(
        name,
        Path(os.path.normpath(directory / wdir)),
        command if isinstance(command, (str, list)) else "",
        tuple(_path(dep, where) for dep in _list(entry, "deps", where)),
        tuple(_out(out, where) for out in outs),
        _params(_list(entry, "params", where), where),
        bool(entry.get("frozen")),
        bool(entry.get("always_changed")),
    )


def _unread(where: str, keys: set[Any]) -> RepositoryUnfit:
    return RepositoryUnfit(
        f"{where} has {', '.join(sorted(f'`{key}`' for key in keys))}, which fusepkg does not read",
        hint="Run it with `dvc repro`",
    )


def _list(entry: dict[str, Any], key: str, where: str) -> list[Any]:
    found = entry.get(key)
    if found is None:
        return []
    if not isinstance(found, list):
        raise RepositoryUnfit(f"{where}: `{key}` is no list")
    return found


def _path(value: Any, where: str) -> str:  # noqa: ANN401 - YAML
    if not isinstance(value, str) or not value or "://" in value:
        raise RepositoryUnfit(f"{where}: {str(value)[:80]!r} is no path on this machine")
    return value


def _out(value: Any, where: str) -> Out:  # noqa: ANN401 - YAML
    if not isinstance(value, dict):
        return Out(_path(value, where))
    options = next(iter(value.values()), None)
    if len(value) != 1 or not isinstance(options, dict | list | None):
        raise RepositoryUnfit(f"{where}: {str(value)[:80]!r} is no output")
    told = options if isinstance(options, dict) else {}
    return Out(_path(next(iter(value)), where), told.get("cache", True) is not False, bool(told.get("persist")))


def _params(values: list[Any], where: str) -> tuple[tuple[str, tuple[str, ...] | None], ...]:
    found: dict[str, tuple[str, ...] | None] = {}
    for value in values:
        for path, keys in value.items() if isinstance(value, dict) else [(PARAMS, [value])]:
            if not isinstance(keys, list | None) or not all(isinstance(key, str) for key in keys or ()):
                raise RepositoryUnfit(f"{where}: {str(value)[:80]!r} names no parameters")
            if any(set(key) & set("*?[") for key in keys or ()):
                raise RepositoryUnfit(f"{where}: the parameter {str(value)[:80]!r} is a pattern; name the keys")
            known = found.get(_path(path, where), ())
            found[path] = None if not keys or known is None else (*known, *keys)
    return tuple(found.items())


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
