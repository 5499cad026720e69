"""Walk a directory in tree order, as a package would list it, without following links or holding it in memory."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg.model.entry import EMPTY_DIRECTORY_NAME, EntryKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class WalkEntry:
    """A file, link or empty directory. ``kind`` is None if a package cannot hold it: sockets, unreadable folders.

    ``status`` is its own, a link's not its target's. A name that is not UTF-8 has surrogates in ``logical_key``.
    """

    logical_key: str
    path: bytes
    kind: EntryKind | None
    status: os.stat_result

    @property
    def place(self) -> bytes:
        """The sort key of tree order."""
        return place_of(self.logical_key)


def place_of(logical_key: str) -> bytes:
    """Return the sort key of tree order, also for names that are not UTF-8."""
    return logical_key.encode("utf-8", "surrogateescape").replace(b"/", b"\0")


def walk_directory(directory: Path, *, leave_out: Collection[str] = ()) -> Iterator[WalkEntry]:
    """Yield everything below a directory, except top-level names in ``leave_out`` and files that vanish meanwhile."""
    root = os.fsencode(directory)
    stack = [(os.path.join(root, os.fsencode(name)), name) for name in _names(root) or () if name not in leave_out]
    stack.reverse()
    while stack:
        path, key = stack.pop()
        try:
            status = os.lstat(path)
        except OSError:
            continue
        if not stat.S_ISDIR(status.st_mode):
            yield WalkEntry(key, path, kind_of_mode(status.st_mode), status)
            continue
        names = _names(path)
        if names is None:
            yield WalkEntry(key, path, None, status)
        elif not names:
            yield WalkEntry(f"{key}/{EMPTY_DIRECTORY_NAME}", path, EntryKind.EMPTY_DIRECTORY, status)
        else:
            stack.extend((os.path.join(path, os.fsencode(name)), f"{key}/{name}") for name in reversed(names))


def kind_of_mode(mode: int) -> EntryKind | None:
    """Return the kind of entry of a file with that mode; of the bits, only the owner's executable bit counts."""
    if stat.S_ISREG(mode):
        return EntryKind.EXECUTABLE if mode & stat.S_IXUSR else EntryKind.FILE
    return EntryKind.SYMLINK if stat.S_ISLNK(mode) else None


def _names(directory: bytes) -> list[str] | None:
    """Return a directory's names, sorted by their bytes; None if it cannot be listed."""
    with suppress(OSError):
        return [name.decode("utf-8", "surrogateescape") for name in sorted(os.listdir(directory))]
    return None
