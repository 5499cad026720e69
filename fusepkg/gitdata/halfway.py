"""What is at a tracked path: a version, nothing, or what an interrupted checkout left half made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusepkg.check.directory import DifferenceKind
from fusepkg.errors import FolderUnfit, FusepkgError
from fusepkg.gitdata.pointer import Pointer
from fusepkg.gitdata.versions import where_it_is
from fusepkg.install.repair import find_differences
from fusepkg.publish.push import folder_hash

if TYPE_CHECKING:
    from pathlib import Path

    from fusepkg.app.context import Context
    from fusepkg.gitdata.worktree import CheckedOut


def is_nothing(place: Path) -> bool:
    """Return whether nothing is at a path, or an empty directory."""
    return not any(place.iterdir()) if place.is_dir() else not place.exists()


def hash_of(app: Context, place: Path, file: str) -> str | None:
    """Return the top hash of what is at a path; ``file`` as in a pointer. None for what no version can be.

    Raises FileChanged.
    """
    try:
        if place.is_dir():
            return folder_hash(place, hints=app.hints)
        return folder_hash(place, only=file or place.name, hints=app.hints)
    except FolderUnfit:
        return None


def is_half_made(app: Context, place: Path, pointer: Pointer | None, brought: CheckedOut | None) -> bool:
    """Return whether all that is in a directory is what an interrupted checkout put there, or had not replaced yet.

    Each file has to be that of one of the versions: the one that is wanted now, the one that was being brought, the one
    that was there before.
    """
    if brought is None or not brought.is_unfinished or not place.is_dir():
        return False
    wanted = [] if pointer is None or pointer.file else [pointer]
    step: CheckedOut | None = brought
    while step is not None:
        wanted += [] if step.file else [as_pointer(step)]
        step = step.before
    foreign: set[str] | None = None
    for one in wanted:
        try:
            index = app.open_package(where_it_is(app, one)).index
            differing = {
                found.logical_key
                for found in find_differences(index, place)
                if found.kind is not DifferenceKind.MISSING
            }
        except FusepkgError:  # a version that is gone: what it had may be anything
            continue
        foreign = differing if foreign is None else foreign & differing
    return foreign == set()


def as_pointer(brought: CheckedOut) -> Pointer:
    """Return a pointer to what was brought."""
    return Pointer(brought.package, brought.top_hash, size=0, files=0, file=brought.file)
