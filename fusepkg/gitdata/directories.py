"""Making the directories of a working tree what its pointers say, without losing what nobody has a version of."""

from __future__ import annotations

import enum
import os
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fusepkg.daemon.records import read_records
from fusepkg.daemon.request import MountRequest
from fusepkg.daemon.start import spawn_mount
from fusepkg.daemon.unmount import end_mount
from fusepkg.errors import RepositoryUnfit
from fusepkg.gitdata.halfway import as_pointer, hash_of, is_half_made, is_nothing
from fusepkg.gitdata.versions import is_kept, is_kept_here, where_it_is
from fusepkg.gitdata.worktree import WAYS, CheckedOut, Worktree
from fusepkg.install.repair import find_differences, force_to_match
from fusepkg.install.run import install
from fusepkg.state.install_record import forget_install
from fusepkg.work.progress import no_progress
from fusepkg.work.scratch import scratch_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from fusepkg.app.context import Context
    from fusepkg.daemon.records import MountRecord
    from fusepkg.gitdata.pointer import Pointer
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
    """Compare a directory or file with its pointer. Files that have not changed since they were hashed are not read.

    Raises RepositoryUnfit, and what opening the version raises.
    """
    place = worktree.root / name
    if place.is_symlink():
        raise RepositoryUnfit(
            f"{name} is a symbolic link, and data is only put into files and directories", hint=f"Remove it: rm {name}"
        )
    record = _mounted_at(place)
    if record is not None:
        return DirectoryState.MOUNTED if record.top_hash == pointer.top_hash else DirectoryState.OTHER_VERSION
    if is_nothing(place):
        return DirectoryState.MISSING
    is_of_kind = place.is_dir() == (not pointer.file)
    found = hash_of(app, place, pointer.file)
    if is_of_kind and (found == pointer.top_hash or (not pointer.file and _is_version(app, place, pointer))):
        return DirectoryState.RIGHT
    is_kept_now = (found is not None and is_kept_here(app, replace(pointer, top_hash=found))) or (
        brought is not None
        and hash_of(app, place, brought.file) == brought.top_hash
        and is_kept(app, as_pointer(brought))
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
    """Make directories and files what their pointers say, one after another, and drop those without a pointer any more.

    ``only`` names some; ``way`` is one of ``WAYS``, by default the working tree's. What holds changes that no version
    has is left as it is, unless ``force`` is True; what an interrupted checkout left half made is none.

    Raises RepositoryUnfit, and what opening, installing and mounting raise; what was done is remembered.
    """
    pointers, brought = worktree.pointers(), worktree.brought()
    for name in [name for name in brought if name not in pointers and (not only or name in only)]:
        done = _drop(app, worktree, name, brought)
        if not done.is_left:
            del brought[name]
            worktree.note_brought(brought)
        yield done
    for name, pointer in pointers.items():
        if only and name not in only:
            continue
        before = brought.get(name)
        found = state_of(app, worktree, name, pointer, before)
        is_left = found is DirectoryState.CHANGED and not force
        if is_left and not is_half_made(app, worktree.root / name, pointer, before):
            hint = f"`fusepkg track {name}` makes a version of it"
            yield DirectoryOutcome(name, f"has changes that no version has, and is left as it is: {hint}", is_left=True)
            continue
        if found in (DirectoryState.RIGHT, DirectoryState.MOUNTED):
            chosen, what = ("mount" if found is DirectoryState.MOUNTED else "files"), "is up to date"
        else:
            chosen = WAYS[0] if pointer.file else way or worktree.way
            there = _what_is_there(app, worktree.root / name, pointer, before)
            brought[name] = CheckedOut(pointer.package, pointer.top_hash, chosen, pointer.file, True, there)
            worktree.note_brought(brought)
            what = _bring(app, worktree.root / name, pointer, chosen, progress)
        brought[name] = CheckedOut(pointer.package, pointer.top_hash, chosen, pointer.file)
        worktree.note_brought(brought)
        yield DirectoryOutcome(name, what)


def _what_is_there(app: Context, place: Path, pointer: Pointer, brought: CheckedOut | None) -> CheckedOut | None:
    """Return the version that is at a path, or the half-made one; None if there is nothing, or changes."""
    if is_nothing(place) or _mounted_at(place) is not None:
        return None
    if brought is not None and brought.is_unfinished and brought.top_hash == pointer.top_hash:
        return brought.before
    if brought is not None and (brought.is_unfinished or hash_of(app, place, brought.file) == brought.top_hash):
        return brought
    found = hash_of(app, place, pointer.file)
    return None if found is None else CheckedOut(pointer.package, found, WAYS[0], pointer.file)


def _bring(app: Context, place: Path, pointer: Pointer, way: str, progress: ProgressCallback) -> str:
    reference = where_it_is(app, pointer)
    if _mounted_at(place) is not None:
        end_mount(place, lazy=False)
    opened = app.open_package(reference)  # so that what is wrong is said before anything goes
    if way == "mount":
        _remove(place)
        place.mkdir(parents=True)
        spawn_mount(MountRequest(reference, place, app.settings))
        return f"is mounted ({_files(pointer.files)})"
    if pointer.file or place.is_file():
        was_there = place.exists()
        bring_to(app, pointer, place, progress)
        return "is another version now" if was_there else f"is here ({_files(pointer.files)})"
    place.mkdir(parents=True, exist_ok=True)
    origin = app.direct_reader(reference.bucket)
    if not any(place.iterdir()):
        report = install(opened.index, str(reference), place, origin, app.settings.data_dir, progress=progress)
        return f"is here ({_files(report.written)})"
    changes = force_to_match(
        opened.index, str(reference), place, origin, app.settings.data_dir, any_directory=True, progress=progress
    )
    return f"is another version now ({_files(len(changes))} changed)"


def bring_to(app: Context, pointer: Pointer, place: Path, progress: ProgressCallback = no_progress) -> None:
    """Put the files of a version, or its one file, in the place of what is there.

    Raises what opening and installing raise.
    """
    reference = where_it_is(app, pointer)
    index = app.open_package(reference).index
    origin, data_dir = app.direct_reader(reference.bucket), app.settings.data_dir
    if not pointer.file:
        _remove(place)
        place.mkdir(parents=True)
        install(index, str(reference), place, origin, data_dir, progress=progress)
        return
    if [entry.logical_key for entry in index.entries] != [pointer.file]:
        raise RepositoryUnfit(f"{reference} is not the one file {pointer.file}", hint="Was its pointer edited by hand?")
    place.parent.mkdir(parents=True, exist_ok=True)
    scratch = place.with_name(scratch_name(".fusepkg-"))
    try:
        scratch.mkdir()
        install(index, str(reference), scratch, origin, data_dir, progress=progress)
        if place.is_dir():
            _remove(place)
        (scratch / pointer.file).replace(place)
    finally:
        _remove(scratch)
        forget_install(data_dir, scratch)


def _drop(app: Context, worktree: Worktree, name: str, brought: dict[str, CheckedOut]) -> DirectoryOutcome:
    """Remove a directory or file whose pointer is gone, if what it holds is a version that is kept somewhere."""
    place, was = worktree.root / name, brought[name]
    if _mounted_at(place) is not None:
        end_mount(place, lazy=False)
        place.rmdir()
        return DirectoryOutcome(name, "is not mounted any more: this revision does not track it")
    if not place.exists():
        return DirectoryOutcome(name, "is gone")
    is_same = hash_of(app, place, was.file) == was.top_hash or is_half_made(app, place, None, was)
    if not (is_same and is_kept(app, as_pointer(was))):
        return DirectoryOutcome(
            name, "is not tracked by this revision, has changes, and is left as it is", is_left=True
        )
    brought[name] = CheckedOut(was.package, was.top_hash, was.way, was.file, True, was.before)
    worktree.note_brought(brought)
    _remove(place)
    return DirectoryOutcome(name, "is removed: this revision does not track it")


def _remove(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


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
