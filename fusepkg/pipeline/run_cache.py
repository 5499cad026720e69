"""DVC's run cache: what stages gave before, by their command, dependencies and parameters.

An entry is a file `runs/<2>/<key>/<value>` beside the cache's objects, with the same words as `dvc.lock`: the key is
the SHA-256 of what went in and the paths that come out, the value that of the whole.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fusepkg.dvc.files import DIRECTORY_SUFFIX, parse_yaml
from fusepkg.dvc.objects import listed_files
from fusepkg.errors import FusepkgError
from fusepkg.gitdata.worktree import write_whole
from fusepkg.pipeline.adding import yaml_bytes
from fusepkg.pipeline.hashes import copy_checked, object_in
from fusepkg.work.scratch import scratch_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from fusepkg.pipeline.stages import Stage

_UNSAID = ("size", "nfiles")
"""What an entry has and its names do not cover."""

_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


def is_kept(stage: Stage, tracked: Collection[str]) -> bool:
    """Return whether results of a stage are remembered: by DVC's rules, and outputs without a copy if ``tracked``."""
    if stage.always_runs or stage.urls or not stage.inputs or not stage.outs:
        return False
    return not any(out.persists or not (out.is_cached or out.is_shown or out.path in tracked) for out in stage.outs)


def keep(cache: Path, entry: Mapping[str, Any]) -> None:
    """Remember what a stage gave; nothing is written if that is known."""
    path = _directory(cache, entry) / _hash(entry)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, yaml_bytes(dict(entry)).decode())


def find(cache: Path, wanted: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what a stage gave before with the same inputs, newest first; of outputs ``wanted`` has only paths.

    What is not as DVC writes it is passed over.
    """
    directory = _directory(cache, wanted)
    with suppress(FileNotFoundError):
        for path in sorted(directory.iterdir(), key=lambda one: one.stat().st_mtime, reverse=True):
            with suppress(FusepkgError, OSError):
                entry = parse_yaml(path.read_bytes(), path.name, "safe")
                if _is_entry(entry) and _directory(cache, entry) == directory:
                    yield entry


def is_same(entry: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether an entry of `dvc.lock` has the inputs and the paths of outputs of another."""
    outs = entry.get("outs")
    if not isinstance(outs, list) or not all(isinstance(out, dict) and "path" in out for out in outs):
        return False
    return _key(entry) == _key(wanted)


def restore(cache: Path, fact: Mapping[str, Any], place: Path) -> bool:
    """Put an output back from the cache, each file compared with its MD5; False if the cache lacks any of it.

    ``fact`` is what an entry says of it; there must be nothing at ``place``.
    """
    unfinished = place.with_name(scratch_name(".fusepkg-"))
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        if not _restore(cache, fact, unfinished):
            return False
        unfinished.rename(place)
        return True
    except (OSError, FusepkgError):  # the stage runs instead, and says so if the disk is full
        return False
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.unlink(missing_ok=True)


def _restore(cache: Path, fact: Mapping[str, Any], place: Path) -> bool:
    md5 = str(fact["md5"])
    source = object_in(cache, md5)
    if not md5.endswith(DIRECTORY_SUFFIX):
        return source.is_file() and copy_checked(source, place, md5, 0o755 if fact.get("isexec") else 0o644)
    if not source.is_file():
        return False
    files = listed_files(source.read_bytes(), md5)
    if files is None:
        return False
    place.mkdir()
    for path, one in files:
        target = place / path
        target.parent.mkdir(parents=True, exist_ok=True)
        kept = object_in(cache, one)
        if not kept.is_file() or not copy_checked(kept, target, one, 0o644):
            return False
    return True


def _directory(cache: Path, entry: Mapping[str, Any]) -> Path:
    key = _key(entry)
    return cache / "runs" / key[:2] / key


def _key(entry: Mapping[str, Any]) -> str:
    return _hash({**entry, "outs": [out["path"] for out in entry.get("outs", ())]})


def _hash(entry: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(_said(entry), sort_keys=True).encode()).hexdigest()


def _said(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return {key: _said(one) for key, one in value.items() if key not in _UNSAID}
    return [_said(one) for one in value] if isinstance(value, list | tuple) else value


def _is_entry(entry: Any) -> bool:  # noqa: ANN401 - YAML
    """Return whether an entry can be restored: all its outputs have an MD5, from which names of files are made."""
    outs = entry.get("outs") if isinstance(entry, dict) else None
    return isinstance(outs, list) and all(
        isinstance(out, dict) and isinstance(out.get("path"), str) and _MD5.fullmatch(str(out.get("md5")))
        for out in outs
    )
