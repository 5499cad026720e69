"""Make a directory in which a job can run again, out of its snapshot."""

from __future__ import annotations

import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusepkg.api.package import Package
from fusepkg.errors import InstallError, UsageError
from fusepkg.snapshots.code import check_out
from fusepkg.snapshots.take import BUNDLE, ENVIRONMENT, FILES, FORMAT, KEY, PACKAGES, PATCH
from fusepkg.work.progress import no_progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusepkg.work.progress import ProgressCallback

FOLDER = "reproduce"
"""What the directory holds besides the job's own files: its environment, and how it is run."""


@dataclass(frozen=True, slots=True)
class Reproduced:
    """``script`` runs the job; None where the snapshot has no command. ``placed`` are the packages by path."""

    directory: Path
    script: Path | None
    placed: dict[str, str]


def reproduce(
    package: Package, directory: Path, *, lazy: bool = False, progress: ProgressCallback = no_progress
) -> Reproduced:
    """Bring code, inputs and environment of a snapshot into a new directory. Nothing is run.

    Inputs are installed where they were, with ``lazy`` mounted. Raises UsageError, InstallError, MountError,
    RemoteError, IntegrityError.
    """
    record = package.meta.get(KEY)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise UsageError(f"{package.name} is no snapshot", hint="`fusepkg snapshot` makes one")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InstallError(f"{directory} is not an empty directory", hint="Name a new one")
    code = record.get("code")
    _bring_code(package, code, directory)
    for key, data in _files(package, FILES):
        _write(directory, key, data)
    for key, data in _files(package, ENVIRONMENT):
        _write(directory, f"{FOLDER}/{key}", data)
    base = _inside(directory, str(code.get("directory") or "")) if isinstance(code, dict) else directory
    placed = {}
    for one in record.get("inputs") or ():
        path = str(one["path"])
        if path:
            place = _inside(base, path)
            place.parent.mkdir(parents=True, exist_ok=True)
            if lazy:
                place.mkdir(exist_ok=True)
            Package(str(one["package"])).install(place, lazy=lazy, progress=progress)
            placed[path] = str(one["package"])
    script = _write_script(package, record, directory, base) if record.get("command") else None
    return Reproduced(directory, script, placed)


def _bring_code(package: Package, code: object, directory: Path) -> None:
    if not isinstance(code, dict):
        directory.mkdir(parents=True, exist_ok=True)
        return
    commit = str(code["commit"])
    if len(commit) not in (40, 64) or set(commit) - set("0123456789abcdef"):
        raise UsageError(f"{package.name} names no commit, but {commit[:80]!r}")
    with tempfile.TemporaryDirectory(prefix="fusepkg-reproduce-") as scratch:
        source, patch = str(code.get("remote") or ""), None
        if BUNDLE in package:
            source = str(_copy(package, BUNDLE, Path(scratch, "commit.bundle")))
        if PATCH in package:
            patch = _copy(package, PATCH, Path(scratch, "changes.patch"))
        check_out(source, commit, patch, directory.absolute())


def _copy(package: Package, key: str, into: Path) -> Path:
    into.write_bytes(package.get(key))
    return into


def _files(package: Package, below: str) -> Iterator[tuple[str, bytes]]:
    for entry in package:
        if entry.logical_key.startswith(below) and entry.is_file():
            yield entry.logical_key.removeprefix(below), entry.get_bytes()


def _write(directory: Path, key: str, data: bytes) -> None:
    path = _inside(directory, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _inside(directory: Path, path: str) -> Path:
    """Return a path below a directory, also through links that the code has. Raises InstallError for any other."""
    whole = (directory / path).resolve()
    if not whole.is_relative_to(directory.resolve()):
        raise InstallError(f"the snapshot names {path!r}, which leads out of {directory}")
    return whole


def _write_script(package: Package, record: dict[str, Any], directory: Path, base: Path) -> Path:
    environment = record.get("environment") or {}
    up = Path("..", base.resolve().relative_to(directory.resolve()))
    lines = [
        "#!/bin/sh",
        f"# Runs the job of {package.reference} again.",
        f"# Python {environment.get('python')}: python3 -m venv .venv && .venv/bin/pip install -r {FOLDER}/"
        f"{PACKAGES.removeprefix(ENVIRONMENT)}",
    ]
    if image := environment.get("image"):
        lines.append(f"# Image: {image}")
    if record.get("seed") is not None:
        lines.append(f"# Seed: {record['seed']}")
    comments = [line.replace("\n", " ") for line in lines]
    script = _inside(directory, f"{FOLDER}/run.sh")
    script.parent.mkdir(parents=True, exist_ok=True)
    go = f'cd "$(dirname "$0")"/{shlex.quote(up.as_posix())}'
    script.write_text("\n".join([*comments, "set -eu", go, f"exec {shlex.join(map(str, record['command']))}", ""]))
    script.chmod(0o755)
    return script
