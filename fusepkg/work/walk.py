"""A directory as a list of what a package would call its entries, in tree order, without holding it.

Owns: this walk, in which symbolic links are not followed and nothing is an error. Must not know: manifests, hashes.
"""

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
class Found:
    """A file, link or empty directory. ``kind`` is None for what a package cannot hold: sockets, unreadable folders.

    ``status`` is its own, a link's not its target's. A name that is not UTF-8 has surrogates in ``logical_key``.
    """

    logical_key: str
    path: bytes
    kind: EntryKind | None
    status: os.stat_result

    @property
    def place(self) -> bytes:
        """What tree order sorts by."""
        return place_of(self.logical_key)


def place_of(logical_key: str) -> bytes:
    """What tree order sorts by, also for names that are not UTF-8."""
    return logical_key.encode("utf-8", "surrogateescape").replace(b"/", b"\0")


def walk_directory(directory: Path, *, leave_out: Collection[str] = ()) -> Iterator[Found]:
    """Everything below a directory but the names at its top that are left out; what vanishes meanwhile is not there."""
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
            yield Found(key, path, kind_of_mode(status.st_mode), status)
            continue
        names = _names(path)
        if names is None:
            yield Found(key, path, None, status)
        elif not names:
            yield Found(f"{key}/{EMPTY_DIRECTORY_NAME}", path, EntryKind.EMPTY_DIRECTORY, status)
        else:
            stack.extend((os.path.join(path, os.fsencode(name)), f"{key}/{name}") for name in reversed(names))


def kind_of_mode(mode: int) -> EntryKind | None:
    """What a package calls a file of that mode; only the owner's executable bit counts."""
    if stat.S_ISREG(mode):
        return EntryKind.EXECUTABLE if mode & stat.S_IXUSR else EntryKind.FILE
    return EntryKind.SYMLINK if stat.S_ISLNK(mode) else None


def _names(directory: bytes) -> list[str] | None:
    """Sorted by their bytes; None where the directory cannot be listed."""
    with suppress(OSError):
        return [name.decode("utf-8", "surrogateescape") for name in sorted(os.listdir(directory))]
    return None
