"""The stages of a `dvc.yaml`, read and checked; what DVC knows and fusepkg does not run is kept with its line."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusepkg.dvc.templates import PARAMS, Variables, expand
from fusepkg.dvc.yaml_file import read_yaml_file
from fusepkg.errors import RepositoryUnfit
from fusepkg.pipeline.urls import why_refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fusepkg.dvc.templates import Expanded
    from fusepkg.dvc.yaml_file import YamlFile, YamlPlace

PIPELINE = "dvc.yaml"

_NAME = re.compile(r"[^@:$/\\\s]+")
_KEYS = {"cmd", "wdir", "deps", "params", "outs", "metrics", "plots", "frozen", "always_changed", "meta", "desc"}
_TOP_KEYS = {"stages", "vars", "plots", "metrics", "params", "artifacts", "datasets"}
_PLOT_KEYS = {"template", "x", "y", "x_label", "y_label", "title", "header"}
_OUT_KEYS = {"cache", "persist", "remote", "push", "desc", "type", "labels", "meta", "checkpoint"} | _PLOT_KEYS


@dataclass(frozen=True, slots=True)
class Out:
    """One output. ``is_cached``: DVC keeps a copy of it in its cache; ``persists``: it is not removed before a run.

    ``is_shown``: it is a metric or a plot.
    """

    path: str
    is_cached: bool = True
    persists: bool = False
    is_shown: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage; paths are as the file has them, relative to ``directory``.

    ``name`` is how it is named from here, ``key`` how its `dvc.yaml` in ``home`` names it, ``group`` that of its
    `foreach` or `matrix`. ``command`` is one text or several. ``params`` has the keys wanted of each file; None: all of
    it. ``urls`` are dependencies elsewhere. ``refused`` says what of it fusepkg cannot do, with the line; empty if
    nothing.
    """

    name: str
    directory: Path
    command: str | list[str]
    home: Path
    key: str
    group: str = ""
    deps: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    outs: tuple[Out, ...] = ()
    params: tuple[tuple[str, tuple[str, ...] | None], ...] = ()
    is_frozen: bool = False
    always_runs: bool = False
    refused: str = ""

    def place(self, path: str) -> Path:
        """Return where a path of the stage lies; symbolic links above it are followed."""
        whole = Path(os.path.abspath(self.directory / path))
        return whole.parent.resolve() / whole.name

    @property
    def inputs(self) -> tuple[str, ...]:
        """Dependencies and files of parameters."""
        return (*self.deps, *(path for path, _ in self.params))


def parse_stages(text: bytes, home: Path, address: str = "", options: Mapping[str, str] | None = None) -> list[Stage]:
    """Read the text of the `dvc.yaml` of a directory; ``address`` is its path for people, if it is not that of here.

    ``options`` are those of `[parsing]` in DVC's configuration. Raises RepositoryUnfit, with the line that is wrong;
    MissingExtra.
    """
    document = read_yaml_file(text, address or PIPELINE)
    check_top(document)

    def read(path: str) -> bytes | None:
        try:
            return (home / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    variables = Variables(read, options or {})
    return [_stage(expanded, home, address) for expanded in expand(document, variables)]


def check_top(document: YamlFile) -> None:
    """Refuse a file that is no `dvc.yaml`. Raises RepositoryUnfit."""
    content = document.content if document.content is not None else {}
    if not isinstance(content, dict):
        raise RepositoryUnfit(f"{document.name} is no mapping with `stages`")
    if unknown := sorted(str(key) for key in content if key not in _TOP_KEYS):
        raise _unread(document.top.at(unknown[0]), document.name, unknown)
    stages = content.get("stages") or {}
    if not isinstance(stages, dict):
        raise RepositoryUnfit(f"{document.top.at('stages')}: `stages` is no mapping")
    for name in stages:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise RepositoryUnfit(
                f"{document.top.at('stages', name)}: {str(name)[:80]!r} cannot be the name of a stage",
                hint="Use letters, digits, - and _",
            )


def _stage(expanded: Expanded, home: Path, address: str) -> Stage:
    entry, place, key = expanded.entry, expanded.place, expanded.name
    if unknown := sorted(str(one) for one in entry if one not in _KEYS):
        raise _unread(place.at(unknown[0]), f"stage {key}", unknown)
    command = entry.get("cmd")
    lines = command if isinstance(command, list) else [command]
    if not lines or not all(isinstance(line, str) and line.strip() for line in lines):
        raise RepositoryUnfit(f"{place.at('cmd')}: stage {key} has no command: `cmd`")
    wdir = entry.get("wdir") or "."
    if not isinstance(wdir, str):
        raise RepositoryUnfit(f"{place.at('wdir')}: `wdir` of stage {key} is no path")
    for flag in ("frozen", "always_changed"):
        if not isinstance(entry.get(flag, False), bool):
            raise RepositoryUnfit(f"{place.at(flag)}: `{flag}` of stage {key} is neither true nor false")
    refused: list[str] = []
    outs = tuple(
        out
        for kind in ("outs", "metrics", "plots")
        for number, one in enumerate(_list(entry, kind, place))
        for out in _outs(one, place.at(kind, number), kind, refused)
    )
    deps, urls = _deps(_list(entry, "deps", place), place.at("deps"), refused)
    params = _params(_list(entry, "params", place), place.at("params"), refused)
    return Stage(
        f"{address}:{key}" if address else key,
        Path(os.path.normpath(home / wdir)),
        command if isinstance(command, (str, list)) else "",
        home,
        key,
        expanded.group,
        deps,
        urls,
        outs,
        params,
        entry.get("frozen", False),
        entry.get("always_changed", False) or not (deps or urls or params or outs),
        refused[0] if refused else "",
    )


def _unread(place: YamlPlace, what: str, keys: list[str]) -> RepositoryUnfit:
    return RepositoryUnfit(
        f"{place}: {what} has {', '.join(f'`{key}`' for key in keys)}, which fusepkg does not read",
        hint="Correct it, or run the pipeline with `dvc repro`",
    )


def _list(entry: dict[str, Any], key: str, place: YamlPlace) -> list[Any]:
    found = entry.get(key)
    if found is None:
        return []
    if not isinstance(found, list):
        raise RepositoryUnfit(f"{place.at(key)}: `{key}` is no list")
    return found


def _deps(values: list[Any], place: YamlPlace, refused: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the dependencies that are paths, and those that are URLs."""
    paths, urls = [], []
    for number, value in enumerate(values):
        if isinstance(value, str) and "://" in value:
            if reason := why_refused(value):
                refused.append(f"{place.at(number)}: {reason}")
            urls.append(value)
        else:
            paths.append(_path(value, place.at(number), refused))
    return tuple(paths), tuple(urls)


def _path(value: Any, place: YamlPlace, refused: list[str]) -> str:  # noqa: ANN401 - YAML
    if not isinstance(value, str) or not value:
        raise RepositoryUnfit(f"{place}: {str(value)[:80]!r} is no path")
    if "://" in value:
        refused.append(
            f"{place}: {value.partition('://')[0]}:// is no path on this machine; only dependencies may be URLs"
        )
    return value


def _outs(value: Any, place: YamlPlace, kind: str, refused: list[str]) -> list[Out]:  # noqa: ANN401 - YAML
    told = {value: {}} if isinstance(value, str) else value
    if not isinstance(told, dict) or not told:
        raise RepositoryUnfit(f"{place}: {str(value)[:80]!r} is no output")
    found = []
    for path, options in told.items():
        given = {} if options is None or (kind == "plots" and isinstance(options, list)) else options
        if not isinstance(given, dict):
            raise RepositoryUnfit(f"{place}: what {str(path)[:80]!r} is to be is no mapping")
        if unknown := sorted(str(one) for one in given if one not in _OUT_KEYS):
            raise _unread(place.at(path, unknown[0]), f"the output {path}", unknown)
        for flag in ("cache", "persist"):
            if not isinstance(given.get(flag, True), bool):
                raise RepositoryUnfit(f"{place.at(path, flag)}: `{flag}` of {path} is neither true nor false")
        is_cached, persists = given.get("cache", True), given.get("persist", False)
        found.append(Out(_path(path, place, refused), is_cached, persists, kind != "outs"))
    return found


def _params(values: list[Any], place: YamlPlace, refused: list[str]) -> tuple[tuple[str, tuple[str, ...] | None], ...]:
    found: dict[str, tuple[str, ...] | None] = {}
    for number, value in enumerate(values):
        at = place.at(number)
        for path, keys in value.items() if isinstance(value, dict) else [(PARAMS, [value])]:
            if not isinstance(keys, list | None) or not all(isinstance(key, str) for key in keys or ()):
                raise RepositoryUnfit(f"{at}: {str(value)[:80]!r} names no parameters")
            if any(set(key) & set("*?[") for key in keys or ()):
                raise RepositoryUnfit(f"{at}: the parameter {str(value)[:80]!r} is a pattern; name the keys")
            known = found.get(_path(path, at, refused), ())
            found[path] = None if not keys or known is None else (*known, *keys)
    return tuple(found.items())
