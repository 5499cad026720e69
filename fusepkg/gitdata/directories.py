"""Making the directories of a working tree what its pointers say, without losing what nobody has a version of."""

from __future__ import annotations

import enum
import os
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fusepkg.daemon.records import read_records
from fusepkg.daemon.request import MountRequest
from fusepkg.daemon.spawn import spawn_mount
from fusepkg.daemon.unmount import end_mount
from fusepkg.errors import RepositoryUnfit
from fusepkg.gitdata.pointer import Pointer
from fusepkg.gitdata.versions import is_kept, is_kept_here, where_it_is
from fusepkg.gitdata.worktree import CheckedOut, Worktree
from fusepkg.install.repair import find_differences, force_to_match
from fusepkg.install.run import install
from fusepkg.publish.push import folder_hash
from fusepkg.work.progress import no_progress

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from fusepkg.app.context import Context
    from fusepkg.daemon.records import MountRecord
    from fusepkg.work.progress import ProgressCallback


class DirectoryState(enum.Enum):
    """What a directory is, compared with its pointer; the value is how `status` says it."""

    RIGHT = "up to date"
    MOUNTED = "mounted"
    MISSING = "not here"
    OTHER_VERSION = "another version"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class DirectoryOutcome:
    """What became of one directory; ``is_left`` if it was left as it is because of what it holds."""

    name: str
    what: str
    is_left: bool = False


def state_of(
    app: Context, worktree: Worktree, name: str, pointer: Pointer, brought: CheckedOut | None
) -> DirectoryState:
    """Compare a directory with its pointer. Files that have not changed since they were hashed are not read again.

    Raises FolderUnfit, and what opening the version raises.
    """
    directory = worktree.root / name
    if directory.is_symlink():
        raise RepositoryUnfit(
            f"{name} is a symbolic link, and data is only put into directories", hint=f"Remove it: rm {name}"
        )
    record = _mounted_at(directory)
    if record is not None:
        return DirectoryState.MOUNTED if record.top_hash == pointer.top_hash else DirectoryState.OTHER_VERSION
    if not directory.is_dir() or not any(directory.iterdir()):
        return DirectoryState.MISSING
    found = folder_hash(directory, hints=app.hints)
    if found == pointer.top_hash or _is_version(app, directory, pointer):
        return DirectoryState.RIGHT
    is_kept_now = is_kept_here(app, replace(pointer, top_hash=found)) or (
        brought is not None and found == brought.top_hash and is_kept(app, _as_pointer(brought))
    )
    return DirectoryState.OTHER_VERSION if is_kept_now else DirectoryState.CHANGED


def checkout(
    app: Context,
    worktree: Worktree,
    only: Collection[str] = (),
    *,
    way: str = "",
    force: bool = False,
    progress: ProgressCallback = no_progress,
) -> Iterator[DirectoryOutcome]:
    """Make directories what their pointers say, one after another, and drop those without a pointer any more.

    ``only`` names some; ``way`` is one of ``WAYS``, by default the working tree's. What holds changes that no version
    has is left as it is, unless ``force`` is True.

    Raises RepositoryUnfit, and what opening, installing and mounting raise; what was done is remembered.
    """
    pointers, brought = worktree.pointers(), worktree.brought()
    for name in [name for name in brought if name not in pointers and (not only or name in only)]:
        done = _drop(app, worktree, name, brought[name])
        if not done.is_left:
            del brought[name]
            worktree.note_brought(brought)
        yield done
    for name, pointer in pointers.items():
        if only and name not in only:
            continue
        found = state_of(app, worktree, name, pointer, brought.get(name))
        if found is DirectoryState.CHANGED and not force:
            hint = f"`fusepkg track {name}` makes a version of it"
            yield DirectoryOutcome(name, f"has changes that no version has, and is left as it is: {hint}", is_left=True)
            continue
        if found in (DirectoryState.RIGHT, DirectoryState.MOUNTED):
            chosen, what = ("mount" if found is DirectoryState.MOUNTED else "files"), "is up to date"
        else:
            chosen = way or worktree.way
            what = _bring(app, worktree.root / name, pointer, chosen, progress)
        brought[name] = CheckedOut(pointer.package, pointer.top_hash, chosen)
        worktree.note_brought(brought)
        yield DirectoryOutcome(name, what)


def _bring(app: Context, directory: Path, pointer: Pointer, way: str, progress: ProgressCallback) -> str:
    reference = where_it_is(app, pointer)
    if _mounted_at(directory) is not None:
        end_mount(directory, lazy=False)
    if way == "mount":
        app.open_package(reference)  # so that what is wrong is said before anything goes
        if directory.is_dir():
            shutil.rmtree(directory)
        directory.mkdir(parents=True)
        spawn_mount(MountRequest(reference, directory, app.settings))
        return f"is mounted ({_files(pointer.files)})"
    opened = app.open_package(reference)
    directory.mkdir(parents=True, exist_ok=True)
    origin = app.direct_reader(reference.bucket)
    if not any(directory.iterdir()):
        report = install(opened.index, str(reference), directory, origin, app.settings.data_dir, progress=progress)
        return f"is here ({_files(report.written)})"
    changes = force_to_match(
        opened.index, str(reference), directory, origin, app.settings.data_dir, any_directory=True, progress=progress
    )
    return f"is another version now ({_files(len(changes))} changed)"


def bring_to(app: Context, pointer: Pointer, place: Path) -> None:
    """Put the files of a version at a path where there is nothing. Raises what opening and installing raise."""
    reference = where_it_is(app, pointer)
    opened = app.open_package(reference)
    place.mkdir(parents=True)
    install(opened.index, str(reference), place, app.direct_reader(reference.bucket), app.settings.data_dir)


def _drop(app: Context, worktree: Worktree, name: str, brought: CheckedOut) -> DirectoryOutcome:
    """Remove a directory whose pointer is gone, if what it holds is a version that is kept somewhere."""
    directory = worktree.root / name
    if _mounted_at(directory) is not None:
        end_mount(directory, lazy=False)
        directory.rmdir()
        return DirectoryOutcome(name, "is not mounted any more: this revision does not track it")
    if not directory.is_dir():
        return DirectoryOutcome(name, "is gone")
    is_same = folder_hash(directory, hints=app.hints) == brought.top_hash
    if not (is_same and is_kept(app, _as_pointer(brought))):
        return DirectoryOutcome(
            name, "is not tracked by this revision, has changes, and is left as it is", is_left=True
        )
    shutil.rmtree(directory)
    return DirectoryOutcome(name, "is removed: this revision does not track it")


def _as_pointer(brought: CheckedOut) -> Pointer:
    return Pointer(brought.package, brought.top_hash, size=0, files=0)


def _files(count: int) -> str:
    return f"{count:,} {'file' if count == 1 else 'files'}"


def _is_version(app: Context, directory: Path, pointer: Pointer) -> bool:
    """Return whether a directory is a version whose top hash covers more than files, such as a message."""
    index = app.open_package(where_it_is(app, pointer)).index
    if not (index.header.get("message") or index.header.get("user_meta")):
        return False
    return not find_differences(index, directory)


def _mounted_at(directory: Path) -> MountRecord | None:
    place = os.path.realpath(directory)
    return next((record for record in read_records() if record.mountpoint == place), None)
