"""Tracked directories of other repositories: imported with where they are from, and followed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg.errors import RepositoryUnfit, UsageError
from fusepkg.gitdata.pointer import SUFFIX, Origin, Pointer, parse_pointer
from fusepkg.model.reference import DEFAULT_REVISION, refuse_credentials
from fusepkg.work.git import copy_of, find_commit, is_bare, top_directory

if TYPE_CHECKING:
    from fusepkg.gitdata.worktree import Worktree


def fetch_pointer(repository: str, path: str, revision: str, copies: Path) -> Pointer:
    """Return the pointer of a directory that another repository tracks, with where it is from.

    Raises InvalidReference for a URL with credentials, RepositoryUnfit, RemoteUnavailable.
    """
    refuse_credentials(repository)
    if "://" not in repository and ":" not in repository:
        repository = os.path.abspath(os.path.expanduser(repository))
        directory = Path(repository) if is_bare(repository) else top_directory(repository)
    else:
        directory, _ = copy_of(repository, copies)
    path = path.strip("/").removesuffix(SUFFIX)
    commit = find_commit(directory, revision or DEFAULT_REVISION, repository)
    blobs = commit.blobs()
    if f"{path}{SUFFIX}" not in blobs:
        is_dvc = f"{path}.dvc" in blobs
        raise RepositoryUnfit(
            f"{repository} does not track {path} with fusepkg" + (", but with DVC" if is_dvc else ""),
            hint=f"`fusepkg mount dvc+{repository}//{path} DIR` shows it"
            if is_dvc
            else f"It tracks {_some([one.removesuffix(SUFFIX) for one in blobs if one.endswith(SUFFIX)])}",
        )
    found = parse_pointer(commit.read([blobs[f"{path}{SUFFIX}"]])[0], f"{repository}: {path}{SUFFIX}")
    return replace(found, origin=Origin(repository, path, revision, commit.hash))


def import_directory(
    worktree: Worktree, repository: str, path: str, out: Path | None, revision: str, copies: Path
) -> tuple[str, Pointer]:
    """Write the pointer of a directory of another repository; return its name here. Data is not brought.

    ``out`` is the directory to come, or an existing one to put it into. Raises as ``fetch_pointer``, and UsageError.
    """
    pointer = fetch_pointer(repository, path, revision, copies)
    last = path.strip("/").rpartition("/")[2]
    target = Path(last) if out is None else out / last if out.is_dir() else out
    name = worktree.name_of(target)
    if name in worktree.pointers() or (worktree.root / name).exists():
        raise UsageError(
            f"{target} is there already", hint="`fusepkg update` follows an import; -o names another place"
        )
    (worktree.root / name).parent.mkdir(parents=True, exist_ok=True)
    worktree.write_pointer(name, pointer)
    return name, pointer


def update(worktree: Worktree, name: str, pointer: Pointer, revision: str, copies: Path) -> Pointer | None:
    """Look at where an import is from, and write its pointer again if that has moved; None if it has not.

    ``revision`` is followed from now on; empty: the one that was. Raises as ``fetch_pointer``.
    """
    assert pointer.origin is not None, "only imports are updated"
    origin = pointer.origin
    newer = fetch_pointer(origin.repository, origin.path, revision or origin.revision, copies)
    if newer == pointer:
        return None
    assert newer.origin is not None, "it says where it is from"
    if newer.top_hash == pointer.top_hash and newer.origin.revision == origin.revision:
        return None  # other commits, the same data: no change to review
    worktree.write_pointer(name, newer)
    return newer


def _some(names: list[str]) -> str:
    return ", ".join(sorted(names)[:10]) or "nothing"
