"""Directories that only this user can change: make them 0700, and check them up to the root of the file system.

``make_private(path)`` is for directories whose files are believed later (a cache, an index, hints, a builder's state).
``check_private(path)`` only looks. Both raise ``NotPrivate``, whose message names the directory that is open to others
and whose hint is the command that mends it. Call one of them whenever such a directory is opened: modes change.
This module imports nothing of fusepkg.

Who can replace a file below ``path``: its owner, and who can write to ``path`` or to a directory above it. So

- ``path`` must belong to this user, and must not be writable by others;
- a directory above it must not be writable by others, unless it is sticky, as ``/tmp`` is;
- a symbolic link in ``path`` is followed, and the directories it leads through are checked as well.

The owner of a directory above is trusted as an administrator is. A group that is this user's own (of the user's name,
without other members), as with umask 002 on many systems, is nobody else. Access lists (ACL) are not looked at.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from typing import TYPE_CHECKING

from fusepkg_cache.errors import CacheUnusable

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE_MODE = 0o700
"""Nobody but the owner looks in."""


class NotPrivate(CacheUnusable):
    """Other users could change what is read from a directory."""

    code = "cache.not_private"


def make_private(path: Path) -> None:
    """Make ``path`` and what is missing above it with mode 0700, or check that what is there is private.

    A directory of this user that others may only read is set to 0700. Raises NotPrivate, OSError.
    """
    missing = [path, *path.parents]
    missing = [each for each in missing if not each.exists() and not each.is_symlink()]
    for each in reversed(missing):
        try:
            each.mkdir(mode=PRIVATE_MODE)
        except FileExistsError:  # another process was first
            continue
    check_private(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        path.chmod(PRIVATE_MODE)


def check_private(path: Path) -> None:
    """Raise NotPrivate if another user could change what lies in ``path``, or put another directory in its place.

    Raises OSError if there is none.
    """
    found = path.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotPrivate(f"cannot use {path}: it is not a directory", hint="Name another directory")
    if found.st_uid != os.geteuid():
        raise NotPrivate(
            f"cannot use {path}: it belongs to user {found.st_uid}, not {os.geteuid()}",
            hint="Its owner could change what is read from it: name a directory of your own",
        )
    if others_can_write(found):
        raise NotPrivate(
            f"cannot use {path}: other users can write to it, and may have changed what is in it",
            hint=f"If they are trusted, run `chmod 700 {path}`; if not, remove it (`rm -r {path}`)",
        )
    for above in _above(path):
        status = above.stat()
        if others_can_write(status) and not status.st_mode & stat.S_ISVTX:
            raise NotPrivate(
                f"cannot use {path}: other users can write to {above}, and could put another directory in its place",
                hint=f"Run `chmod go-w {above}`, or name a directory elsewhere",
            )


def _above(path: Path) -> list[Path]:
    """The directories above ``path``, by its names and by where its links lead."""
    absolute, real = path.absolute(), path.resolve()
    above = dict.fromkeys([*real.parents, *absolute.parents])
    for each in (absolute, *absolute.parents):
        if each.is_symlink():
            above.update(dict.fromkeys(each.resolve().parents))
    return list(above)


def others_can_write(found: os.stat_result) -> bool:
    """Return whether another user may write to a file or directory, by its mode and group."""
    if found.st_mode & stat.S_IWOTH:
        return True
    return bool(found.st_mode & stat.S_IWGRP) and not _group_is_ours(found.st_gid)


def _group_is_ours(group: int) -> bool:
    """Whether a group is this user's private one: of the same name, and without other members."""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
        found = grp.getgrgid(group)
    except KeyError:  # neither is known here, as in many containers
        return False
    return found.gr_name == user and set(found.gr_mem) <= {user}
