"""The directory a package is written into. Paths below it are opened by descriptor; no symbolic link is followed.

Files are written in a directory of fusepkg at the top of the target and renamed when complete. Safe for many threads.
"""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from contextlib import contextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING

from fusepkg.errors import InstallError
from fusepkg.model.entry import EntryKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STAGING = ".fusepkg-installing"
"""Unfinished files, at the top of the target; gone when the install is."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Blocked(Exception):
    """The user has a file or a symbolic link where a directory is needed."""


class Target:
    """One open directory. Made by ``opened_target``."""

    def __init__(self, directory: Path, root: int, staging: int, *, was_empty: bool) -> None:
        self.directory = directory
        self.was_empty = was_empty
        self._root = root
        self._staging = staging
        self._last = threading.local()
        self._held: list[int] = []
        self._lock = threading.Lock()
        self._numbers = count()

    def status(self, logical_key: str) -> os.stat_result | None:
        """Return the stat data of a name, links not followed; None if there is none. Raises Blocked."""
        try:
            parent, name = self._parent(logical_key, make=False)
            return os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def is_directory(self, logical_key: str) -> bool:
        """Return whether there is a directory of that name. Raises Blocked."""
        found = self.status(logical_key)
        return found is not None and stat.S_ISDIR(found.st_mode)

    def make_directory(self, logical_key: str) -> None:
        """Make a directory, and those above it. Raises Blocked, InstallError."""
        with self._errors_as_ours(logical_key):
            self._parent(f"{logical_key}/.", make=True)

    def open_new(self, name: str, kind: EntryKind) -> int:
        """Open an unfinished file and return its descriptor; an existing one is continued."""
        with self._errors_as_ours(name):
            mode = 0o777 if kind is EntryKind.EXECUTABLE else 0o666  # less the umask
            return os.open(name, _NEW, mode, dir_fd=self._staging)

    def new_name(self) -> str:
        """Return an unused name for an unfinished file."""
        return f"{next(self._numbers)}"

    def link_new(self, name: str, link: bytes) -> None:
        """Make an unfinished symbolic link. Raises InstallError."""
        with self._errors_as_ours(name):
            os.symlink(link, name, dir_fd=self._staging)

    def place(self, name: str, logical_key: str, time_s: int) -> os.stat_result:
        """Give a finished file its time and name, replacing any file of that name. Raises Blocked, InstallError."""
        with self._errors_as_ours(logical_key):
            parent, last = self._parent(logical_key, make=True)
            os.utime(name, (time_s, time_s), dir_fd=self._staging, follow_symlinks=False)
            try:
                os.rename(name, last, src_dir_fd=self._staging, dst_dir_fd=parent)
            except (IsADirectoryError, NotADirectoryError) as exc:
                raise Blocked(logical_key) from exc
            return os.stat(last, dir_fd=parent, follow_symlinks=False)

    def drop(self, name: str) -> None:
        """Remove an unfinished file."""
        with suppress(OSError):
            os.unlink(name, dir_fd=self._staging)

    def set_executable(self, logical_key: str, is_executable: bool) -> os.stat_result:
        """Set or clear a file's executable bits, for those who may read it. Raises Blocked, InstallError."""
        with self._errors_as_ours(logical_key):
            parent, name = self._parent(logical_key, make=False)
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:
                mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
                os.fchmod(descriptor, mode | (mode & 0o444) >> 2 if is_executable else mode & ~0o111)
                return os.fstat(descriptor)
            finally:
                os.close(descriptor)

    def remove(self, logical_key: str, *, is_directory: bool) -> None:
        """Remove a file, a link or an empty directory, and the directories above it that this empties."""
        with self._errors_as_ours(logical_key):
            parent, name = self._parent(logical_key, make=False)
            (os.rmdir if is_directory else os.unlink)(name, dir_fd=parent)
            self._forget_parents()
            while "/" in logical_key:
                logical_key = logical_key.rpartition("/")[0]
                parent, name = self._parent(logical_key, make=False)
                try:
                    os.rmdir(name, dir_fd=parent)
                except OSError:
                    break  # not empty, which is as well
                self._forget_parents()

    # --- inside ----------------------------------------------------------------------------------------------

    def _parent(self, logical_key: str, *, make: bool) -> tuple[int, str]:
        """Return a descriptor of a name's directory, valid until this thread's next call, and the last part."""
        path, _, name = logical_key.rpartition("/")
        known: tuple[str, int] | None = getattr(self._last, "directory", None)
        if known is not None and known[0] == path:
            return known[1], name
        descriptor = self._open(path, make=make)
        with self._lock:
            if known is not None:
                self._held.remove(known[1])
                os.close(known[1])
            self._held.append(descriptor)
        self._last.directory = (path, descriptor)
        return descriptor, name

    def _open(self, path: str, *, make: bool) -> int:
        at = os.dup(self._root)
        try:
            for part in path.split("/") if path else ():
                below = self._open_part(at, part, make=make)
                os.close(at)
                at = below
        except BaseException:
            os.close(at)
            raise
        return at

    def _open_part(self, at: int, part: str, *, make: bool) -> int:
        try:
            return os.open(part, _DIRECTORY, dir_fd=at)
        except FileNotFoundError:
            if not make:
                raise
        except OSError as exc:
            status = os.stat(part, dir_fd=at, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                raise
            raise Blocked(part) from exc
        with suppress(FileExistsError):  # another thread made it
            os.mkdir(part, dir_fd=at)
        return self._open_part(at, part, make=False)

    def _forget_parents(self) -> None:
        """Drop the descriptors of all threads: a directory was removed."""
        known: tuple[str, int] | None = getattr(self._last, "directory", None)
        if known is not None:
            with self._lock:
                self._held.remove(known[1])
            os.close(known[1])
            del self._last.directory

    def close(self) -> None:
        """Close the descriptors that threads have left open."""
        with self._lock:
            held, self._held = self._held, []
        for descriptor in held:
            os.close(descriptor)

    @contextmanager
    def _errors_as_ours(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise cannot_write(self.directory, name, exc) from exc


@contextmanager
def opened_target(directory: Path) -> Iterator[Target]:
    """Open a directory to write into, made if missing, and lock it for this install.

    Unfinished files stay for the next try if the block is interrupted or the bucket fails; they are removed if the disk
    fails, which may be full. Raises InstallError.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise InstallError(
            f"{directory} cannot be written into: {exc.strerror}", hint="Name a directory of yours, or a new one"
        ) from exc
    try:
        try:
            fcntl.flock(root, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise InstallError(f"another install writes into {directory}", hint="Wait until it has ended") from exc
        was_empty = not any(name != STAGING for name in os.listdir(root))
        staging = _open_staging(directory, root)
        target = Target(directory, root, staging, was_empty=was_empty)
        try:
            yield target
        except InstallError:
            _sweep(root, staging)
            raise
        else:
            _sweep(root, staging)
        finally:
            target.close()
            os.close(staging)
    finally:
        os.close(root)


def _open_staging(directory: Path, root: int) -> int:
    try:
        with suppress(FileExistsError):
            os.mkdir(STAGING, 0o700, dir_fd=root)
        staging = os.open(STAGING, _DIRECTORY, dir_fd=root)
    except OSError as exc:
        raise cannot_write(directory, STAGING, exc) from exc
    for name in os.listdir(staging):
        if name.isdecimal():  # of small files, which are fetched whole
            os.unlink(name, dir_fd=staging)
    return staging


def _sweep(root: int, staging: int) -> None:
    with suppress(OSError):
        for name in os.listdir(staging):
            os.unlink(name, dir_fd=staging)
        os.rmdir(STAGING, dir_fd=root)


def cannot_write(directory: Path, name: str, exc: OSError) -> InstallError:
    """Return the error for a write that the disk or the kernel refused."""
    return InstallError(
        f"{directory}/{name} cannot be written: {exc.strerror}",
        hint="What is there already stays; once that is mended, the next install goes on from it",
    )
