"""What a folder holds, as a package would: every file with its logical key, or one error that names all obstacles.

Of a file's mode only the owner's executable bit is kept; times, owners and hard links are not. Nothing is left out
silently: what a package cannot hold is collected, all of it, and reported at once.
"""

from __future__ import annotations

import enum
import os
import stat
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fusepkg.errors import FolderUnfit, UsageError
from fusepkg.model.entry import EMPTY_DIRECTORY_NAME, EntryKind
from fusepkg.model.links import LinkGraph, text_stays_inside
from fusepkg.model.physical_key import MAX_PATH_BYTES
from fusepkg.publish.scanned import ScannedFile, ScannedFiles
from fusepkg.state.file_identity import FileIdentity, FileSystems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_NAMED_PROBLEMS = 10
"""Obstacles that the message names before it counts the rest."""


@dataclass(frozen=True, slots=True)
class Scan:
    """A folder's future entries, in tree order."""

    directory: Path
    files: ScannedFiles


@dataclass(frozen=True, slots=True)
class _Problem:
    path: str
    reason: str
    hint: str


_HINT_RENAME = "rename what has an unfit name"
_HINT_ACCESS = "make everything readable (chmod -R u+rX)"
_HINT_LINKS = "publish what such links point to (--symlinks follow-outside), or keep them (--symlinks keep)"
_HINT_CHANGING = "let nothing change the folder meanwhile, and keep its path short"
_HINT_REMOVE = "remove or move what is neither a file nor a directory"

_SPECIAL = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


class Symlinks(enum.Enum):
    """What becomes of a folder's symbolic links; those that stay inside are kept as links except by ``follow``."""

    REFUSE = "refuse"
    """Links out of the folder are an error."""
    FOLLOW_OUTSIDE = "follow-outside"
    """What links out of the folder point to is published in their place."""
    FOLLOW = "follow"
    """What any link points to is published in its place."""
    KEEP = "keep"
    """Links out of the folder are kept; they can be followed only where a reader asks for it."""


def parse_symlinks(text: str) -> Symlinks:
    """Return what a user named. Raises UsageError."""
    try:
        return Symlinks(text)
    except ValueError as exc:
        names = ", ".join(one.value for one in Symlinks)
        raise UsageError(f"symbolic links cannot be treated as {text!r}", hint=f"Take one of {names}") from exc


def scan_folder(
    directory: Path, symlinks: Symlinks = Symlinks.REFUSE, leave_out: Callable[[str, bool], bool] | None = None
) -> Scan:
    """Return everything a folder holds.

    ``leave_out`` is asked of every logical key, and whether it is a directory; it says what is passed by unread.

    Raises: FolderUnfit, naming the first obstacles and counting the rest.
    """
    if not directory.exists():
        raise FolderUnfit(f"{directory} does not exist", hint="Name the folder to publish")
    if not directory.is_dir():
        raise FolderUnfit(f"{directory} is not a directory", hint="A package is made of a folder: put the file in one")
    walk = _Walk(os.fsencode(directory), symlinks, leave_out)
    walk.run()
    if walk.problems:
        raise _unfit(directory, walk.problems)
    if not walk.files:
        raise FolderUnfit(f"{directory} is empty", hint="A package needs at least one file")
    return Scan(directory, walk.files)


def scan_file(path: Path) -> ScannedFile:
    """Return one file by itself, of which the name is the logical key; a link is followed. Raises FolderUnfit."""
    walk = _Walk(os.fsencode(path.parent), Symlinks.FOLLOW)
    name = os.fsencode(path.name)
    if walk.is_fit(name, walk.root, ""):
        walk.examine(os.fsencode(path), name.decode())
    if walk.problems:
        raise _unfit(path.parent, walk.problems)
    return walk.files[0]


_FOLLOWING = (Symlinks.FOLLOW, Symlinks.FOLLOW_OUTSIDE)


class _Walk:
    """One walk, depth first in tree order: byte order of names, a directory's content at its name's place."""

    def __init__(self, root: bytes, symlinks: Symlinks, leave_out: Callable[[str, bool], bool] | None = None) -> None:
        self.root = root
        self.real_root = os.path.realpath(root)
        self.symlinks = symlinks
        self.leave_out = leave_out
        self.file_systems = FileSystems()
        self.links = LinkGraph()
        self.files = ScannedFiles(self.real_root if symlinks in _FOLLOWING else root)
        self.problems: list[_Problem] = []

    def run(self) -> None:
        top = os.stat(self.root)
        # (names still to come, what their keys start with, the directories they lie in): the innermost last
        base = os.path.join(self.root, b"")
        stack: list[tuple[Iterator[bytes], str, tuple[tuple[int, int], ...]]]
        stack = [(self._names(self.root, ""), "", ((top.st_dev, top.st_ino),))]
        while stack:
            names, prefix, above = stack[-1]
            name = next(names, None)
            if name is None:
                stack.pop()
                continue
            key = prefix + name.decode()
            path = base + key.encode()
            found = self.examine(path, key)
            if found is None:
                continue
            inside = (found.st_dev, found.st_ino)
            if inside in above:
                self._problem(path, "is a symbolic link to a directory it lies in", _HINT_REMOVE)
                continue
            stack.append((self._names(path, f"{key}/"), f"{key}/", (*above, inside)))
        self._check_links()

    def _check_links(self) -> None:
        """Note the links that lead out of the folder through other links."""
        leaving = dict(self.links.leaving())
        if self.symlinks is Symlinks.KEEP:
            for number, file in self.files.others():
                if file.link and self._may_lead_out(file, leaving):
                    self.files.replace(number, replace(file, leads_out=True))
            return
        for key, target in leaving.items():
            if text_stays_inside(key.decode(), target.decode()):  # the others are noted
                self._leaves(os.path.join(self.root, key), target.decode())

    def _leaves(self, path: bytes, target: str) -> None:
        self._problem(path, f"is a symbolic link out of the folder (to {target})", _HINT_LINKS)

    def _names(self, directory: bytes, prefix: str) -> Iterator[bytes]:
        """Return the names in a directory that a package can have, sorted; mark an empty one below the root."""
        try:
            names = sorted(os.listdir(directory))
        except OSError as exc:
            self._problem(directory, f"cannot be listed ({exc.strerror})", _HINT_ACCESS)
            return iter(())
        if not names and prefix:
            self.files.append(
                ScannedFile(prefix + EMPTY_DIRECTORY_NAME, EntryKind.EMPTY_DIRECTORY, FileIdentity(0, 0, 0, 0, 0))
            )
        return (name for name in names if self.is_fit(name, directory, prefix))

    def is_fit(self, name: bytes, directory: bytes, prefix: str) -> bool:
        """Return whether a package can have a name; note the problem if it cannot."""
        if not _is_utf8(name):
            problem = "has a name that is not UTF-8"
        elif name == EMPTY_DIRECTORY_NAME.encode():
            problem = "has the name that marks empty directories"
        elif len(prefix.encode()) + len(name) > MAX_PATH_BYTES:
            problem = f"has a path of more than {MAX_PATH_BYTES} bytes"
        else:
            return True
        self._problem(os.path.join(directory, name), problem, _HINT_RENAME)
        return False

    def examine(self, path: bytes, key: str) -> os.stat_result | None:
        """Record a file or link; give back a directory's stat for its names to be read."""
        try:
            status = os.stat(path, follow_symlinks=self.symlinks is Symlinks.FOLLOW)
            if self._is_to_be_followed(path, key, status):
                status = os.stat(path)
        except OSError as exc:
            if self.symlinks in _FOLLOWING and os.path.islink(path):
                self._problem(path, f"is a symbolic link that leads nowhere ({exc.strerror})", _HINT_REMOVE)
            else:
                hint = _HINT_ACCESS if isinstance(exc, PermissionError) else _HINT_CHANGING
                self._problem(path, f"cannot be examined ({exc.strerror})", hint)
            return None
        if self.leave_out is not None and self.leave_out(key, stat.S_ISDIR(status.st_mode)):
            return None
        if stat.S_ISDIR(status.st_mode):
            return status
        if stat.S_ISLNK(status.st_mode):
            self._link(path, key, status)
        elif stat.S_ISREG(status.st_mode):
            self._file(path, key, status)
        else:
            self._problem(path, f"is {_SPECIAL.get(stat.S_IFMT(status.st_mode), 'no regular file')}", _HINT_REMOVE)
        return None

    def _may_lead_out(self, file: ScannedFile, leaving: dict[bytes, bytes]) -> bool:
        return file.logical_key.encode() in leaving or not text_stays_inside(file.logical_key, file.link)

    def _is_to_be_followed(self, path: bytes, key: str, status: os.stat_result) -> bool:
        """Return whether it is a link that leads out of the folder, where only such links are followed."""
        if self.symlinks is not Symlinks.FOLLOW_OUTSIDE or not stat.S_ISLNK(status.st_mode):
            return False
        text = os.readlink(path).decode("utf-8", "surrogateescape")
        real = os.path.realpath(path)
        return not (text_stays_inside(key, text) and (real + b"/").startswith(self.real_root.rstrip(b"/") + b"/"))

    def _file(self, path: bytes, key: str, status: os.stat_result) -> None:
        if not os.access(path, os.R_OK, effective_ids=True):
            self._problem(path, "cannot be read", _HINT_ACCESS)
            return
        kind = EntryKind.EXECUTABLE if status.st_mode & stat.S_IXUSR else EntryKind.FILE
        # With links followed, the file itself is opened, so that a link swapped in later is not followed.
        opened = os.path.realpath(path) if self.symlinks in _FOLLOWING else path
        self.files.append(ScannedFile(key, kind, self.file_systems.identity(opened, status), opened))

    def _link(self, path: bytes, key: str, status: os.stat_result) -> None:
        target = os.readlink(path)
        try:
            text = target.decode("utf-8")
        except UnicodeDecodeError:
            self._problem(path, "is a symbolic link whose target is not UTF-8", _HINT_LINKS)
            return
        self.links.add(key.encode(), target)
        if not text_stays_inside(key, text) and self.symlinks is not Symlinks.KEEP:
            self._leaves(path, text)
            return
        size = len(target)
        identity = FileIdentity(status.st_dev, status.st_ino, size, status.st_mtime_ns, status.st_ctime_ns)
        self.files.append(ScannedFile(key, EntryKind.SYMLINK, identity, link=text))

    def _problem(self, path: bytes, reason: str, hint: str) -> None:
        shown = os.path.relpath(path, self.root).decode("utf-8", "backslashreplace")
        self.problems.append(_Problem(shown, reason, hint))


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _unfit(directory: Path, problems: list[_Problem]) -> FolderUnfit:
    lines = [f"{problem.path} {problem.reason}" for problem in problems[:_NAMED_PROBLEMS]]
    more = len(problems) - len(lines)
    if more > 0:
        lines.append(f"and {more} more")
    hints = [hint for hint, _ in Counter(problem.hint for problem in problems).most_common()]
    advice = ", ".join(hints)
    return FolderUnfit(f"{directory} cannot be a package: {'; '.join(lines)}", hint=advice[:1].upper() + advice[1:])
