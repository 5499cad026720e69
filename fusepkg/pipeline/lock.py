"""`dvc.lock`: what each stage ran with and what came out, and how that differs from what is there now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from fusepkg.dvc.files import listed_hash, parse_yaml
from fusepkg.dvc.templates import PARAMS
from fusepkg.errors import RepositoryUnfit
from fusepkg.gitdata.worktree import write_whole
from fusepkg.pipeline.adding import yaml_bytes
from fusepkg.pipeline.params import values_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from fusepkg.pipeline.hashes import OutputHash
    from fusepkg.pipeline.stages import Stage
    from fusepkg.pipeline.urls import UrlFact
    from fusepkg.pipeline.versions import Versions

LOCK = "dvc.lock"
_SCHEMA = "2.0"


def read_lock(directory: Path) -> dict[str, Any]:
    """Return what the `dvc.lock` of a directory says, by stage; empty without the file. Raises RepositoryUnfit."""
    return dict(_content(directory, "safe")["stages"])


def write_entry(directory: Path, name: str, entry: Mapping[str, Any]) -> None:
    """Put one stage into the `dvc.lock` of a directory, as a whole or not at all; the others stay as they are."""
    content = _content(directory, "rt")
    content["stages"][name] = entry
    write_whole(directory / LOCK, yaml_bytes(content).decode())


def entry_of(
    stage: Stage,
    deps: Mapping[str, OutputHash | UrlFact],
    params: Mapping[str, Mapping[str, Any]],
    outs: Mapping[str, OutputHash],
) -> dict[str, Any]:
    """Return what `dvc.lock` has to say of a stage that has run, in DVC's order."""
    files = sorted(params, key=lambda path: (path != PARAMS, path))
    parts = {
        "deps": [_fact(path, deps[path]) for path in sorted(deps)],
        "params": {path: dict(params[path]) for path in files},
        "outs": [_fact(path, outs[path]) for path in sorted(outs)],
    }
    return {"cmd": stage.command} | {key: value for key, value in parts.items() if value}


def differences(stage: Stage, locked: Mapping[str, Any] | None, versions: Versions) -> list[str]:
    """Return why a stage has to run, for people; empty if it is up to date. Raises as hashing and parameters do."""
    if stage.always_runs:
        return ["it always runs"]
    if locked is None:
        return ["it has not run yet"]
    found = [] if locked.get("cmd") == stage.command else ["its command changed"]
    found += _changed("dependency", stage, stage.deps, _listed(locked, "deps", urls=False), versions)
    found += _changed_urls(stage, _listed(locked, "deps", urls=True), versions)
    absent = [path for path, _ in stage.params if not stage.place(path).exists()]  # a stage before it makes it
    if absent:
        return [*found, *(f"parameters {path} are missing" for path in absent)]
    now, before = values_of(stage), locked.get("params") or {}
    for path in {**now, **before}:
        one, other = now.get(path, {}), before.get(path, {})
        found += [
            f"parameter {path}:{key} changed"
            for key in {**one, **other}
            if key not in one or one[key] != other.get(key)
        ]
    return found + _changed("output", stage, [out.path for out in stage.outs], locked.get("outs"), versions)


def md5_of(fact: Mapping[str, Any]) -> str | None:
    """Return the MD5 that `dvc.lock` has of a path; of a directory whose files it lists, that of the list."""
    return listed_hash(fact["files"]) if isinstance(fact.get("files"), list) else fact.get("md5")


def _listed(locked: Mapping[str, Any], key: str, *, urls: bool) -> list[dict[str, Any]]:
    """Return what is noted of paths, or of URLs."""
    return [one for one in locked.get(key) or () if isinstance(one, dict) and ("://" in str(one.get("path"))) is urls]


def _changed_urls(stage: Stage, listed: list[dict[str, Any]], versions: Versions) -> list[str]:
    before = {str(one.get("path")): one.get("etag") or one.get("checksum") for one in listed}
    found = []
    for url in stage.urls:
        if url not in before:
            found.append(f"dependency {url} is new")
        elif versions.fact(url).mark != before[url]:
            found.append(f"dependency {url} changed")
    return found + [f"dependency {url} is gone from dvc.yaml" for url in before if url not in stage.urls]


def _changed(what: str, stage: Stage, paths: Iterable[str], listed: Any, versions: Versions) -> list[str]:  # noqa: ANN401 - YAML
    before = {str(one.get("path")): md5_of(one) for one in listed or () if isinstance(one, dict)}
    found = []
    for path in paths:
        place = stage.place(path)
        if path not in before:
            found.append(f"{what} {path} is new")
        elif not place.exists():
            found.append(f"{what} {path} is missing")
        elif versions.hash(place).md5 != before[path]:
            found.append(f"{what} {path} changed")
    return found + [f"{what} {path} is gone from dvc.yaml" for path in before if path not in paths]


def _fact(path: str, hashed: OutputHash | UrlFact) -> dict[str, Any]:
    return {"path": path, "hash": "md5", **msgspec.to_builtins(hashed)}


def _content(directory: Path, kind: str) -> Any:  # noqa: ANN401 - YAML
    path = directory / LOCK
    content = parse_yaml(path.read_bytes(), LOCK, kind) if path.exists() else None
    if content is None:
        return {"schema": _SCHEMA, "stages": {}}
    if not isinstance(content, dict) or content.get("schema") != _SCHEMA:
        raise RepositoryUnfit(f"{LOCK} is not of schema {_SCHEMA}", hint="`dvc commit` of DVC 2 or newer rewrites it")
    stages = content.setdefault("stages", {})
    if not isinstance(stages, dict) or not all(isinstance(entry, dict) for entry in stages.values()):
        raise RepositoryUnfit(f"`stages` of {LOCK} is not as DVC writes it", hint="`git checkout dvc.lock` restores it")
    return content
