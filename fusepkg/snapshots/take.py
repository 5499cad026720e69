"""Make a version of a finished job."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusepkg.api.builder import PackageBuilder
from fusepkg.api.package import Package
from fusepkg.daemon.records import mounts_below
from fusepkg.errors import UsageError
from fusepkg.model.reference import parse_reference
from fusepkg.opened.contexts import current_context
from fusepkg.publish.ignoring import Ignoring
from fusepkg.snapshots.code import look_at_code, write_bundle
from fusepkg.snapshots.environment import LOCK_FILES, look_at_environment
from fusepkg.state.install_record import installed_at
from fusepkg.work.progress import no_progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fusepkg.snapshots.code import Code
    from fusepkg.work.progress import ProgressCallback

KEY = "snapshot"
"""Where in a package's metadata it stands."""

FORMAT = 1

OUTPUTS, FILES, ENVIRONMENT = "outputs/", "files/", "environment/"
"""Directories of a snapshot: what the job made, files that git does not know, lock files."""

PATCH, BUNDLE, PACKAGES = "code/changes.patch", "code/commit.bundle", f"{ENVIRONMENT}packages.txt"


def take_snapshot(
    name: str,
    outputs: Sequence[str],
    *,
    directory: Path | None = None,
    command: Sequence[str] = (),
    message: str | None = None,
    seed: str | None = None,
    inputs: Mapping[str, str] | None = None,
    image: str | None = None,
    python: str | None = None,
    progress: ProgressCallback = no_progress,
) -> Package:
    """Publish a finished job: its outputs, its code, its inputs, what it ran in, its command.

    ``outputs`` are paths below the working directory, or ``directory``. ``inputs`` has, by package, the path where the
    job found it, "" for none; those that are mounted or installed below are known by themselves. Raises UsageError,
    FolderUnfit, and as publishing does.
    """
    where = (directory or Path.cwd()).resolve()
    if not outputs:
        raise UsageError("a snapshot of no outputs", hint="Name the files or directories that the job has made")
    paths = [_below(where, output) for output in outputs]
    found = {**_installed(where), **mounts_below(where)}
    placed = {**found, **{path: package for package, path in (inputs or {}).items() if path}}
    elsewhere = [package for package, path in (inputs or {}).items() if not path]
    code = look_at_code(where)
    facts, packages = look_at_environment(command, python, image)
    builder = PackageBuilder(name, quiet=True)
    builder.message = message
    with tempfile.TemporaryDirectory(prefix="fusepkg-snapshot-") as scratch:
        for path in paths:
            whole = where / path
            builder.add(f"{whole}/" if whole.is_dir() else whole, f"{OUTPUTS}{path}{'/' if whole.is_dir() else ''}")
        _add_code(builder, where, code, [*paths, *placed], Path(scratch))
        _add_environment(builder, where, packages, Path(scratch))
        builder.meta = {
            KEY: {
                "format": FORMAT,
                "command": [word.encode("utf-8", "backslashreplace").decode() for word in command],
                "seed": seed,
                "inputs": [
                    *_inputs(placed),
                    *({"package": str(Package(one).reference), "path": ""} for one in elsewhere),
                ],
                "code": code and {"commit": code.commit, "remote": code.remote, "directory": code.prefix},
                "environment": facts,
            }
        }
        return builder.push_data_and_manifest(progress=progress)


def _below(where: Path, path: str) -> str:
    """Return a path as one below the job's directory. Raises UsageError."""
    whole = (where / path).resolve()
    if whole == where or not whole.is_relative_to(where):
        raise UsageError(f"{path} does not lie below {where}", hint="Name outputs below the job's directory")
    if not whole.exists():
        raise UsageError(f"{path} is not there", hint="Take the snapshot when the job is done")
    return whole.relative_to(where).as_posix()


def _add_code(builder: PackageBuilder, where: Path, code: Code | None, taken: Sequence[str], scratch: Path) -> None:
    if code is None:
        ignoring = Ignoring(where, set(taken))
        builder.draft.add(f"{where}/", FILES, leave_out=ignoring.leaves_out)
        return
    if code.patch:
        (scratch / "patch").write_bytes(code.patch)
        builder.set(PATCH, scratch / "patch")
    if code.bundle:
        write_bundle(code, scratch / "bundle")
        builder.set(BUNDLE, scratch / "bundle")
    left_out = [f"{code.prefix}/{path}".lstrip("/") for path in taken]
    for path in code.untracked:
        is_output = any(path == one or path.startswith(f"{one}/") for one in left_out)
        if not is_output and (code.root / path).is_file():
            builder.set(f"{FILES}{path}", code.root / path)


def _add_environment(builder: PackageBuilder, where: Path, packages: str, scratch: Path) -> None:
    (scratch / "packages").write_text(packages)
    builder.set(PACKAGES, scratch / "packages")
    for name in LOCK_FILES:
        if (where / name).is_file():
            builder.set(f"{ENVIRONMENT}{name}", where / name)


def _installed(where: Path) -> dict[str, str]:
    """Return the packages that are installed right below a directory, by path."""
    data_dir = current_context().settings.data_dir
    found = {}
    for child in sorted(where.iterdir()):
        installed = installed_at(data_dir, child) if child.is_dir() else None
        if installed is not None:
            found[child.name] = f"{parse_reference(installed.reference).package}@{installed.top_hash}"
    return found


def _inputs(placed: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return packages with their hashes and places. Raises PackageError for one that is not there."""
    return [{"package": str(Package(package).reference), "path": path} for path, package in sorted(placed.items())]
