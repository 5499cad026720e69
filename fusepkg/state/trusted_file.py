"""Whether a file that says what fusepkg does is this user's own: a builder file, a configuration, an ignore file.

Such a file may lie in a directory that others write to, or above the working directory. Its author decides where
data go and what is published, so it is used only if no other user than root could have written it.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from fusepkg_cache.private_directory import others_can_write

if TYPE_CHECKING:
    from pathlib import Path


def why_not_ours(path: Path) -> str:
    """Return why a file is not used, in words that follow its name; "" if only this user or root could write it.

    The file and its directory have to belong to one of them. Neither these two nor any directory above may be writable
    by others, but directories above may be if they are sticky, as ``/tmp`` is. Raises OSError if there is no such file.
    """
    real = path.resolve()
    found, directory = real.stat(), real.parent.stat()
    for status, what in ((found, ""), (directory, f"lies in {real.parent}, which ")):
        if status.st_uid not in _our_users():
            return f"{what}belongs to user {status.st_uid}, not to {os.geteuid()}"
        if others_can_write(status):
            return f"{what}can be written to by other users"
    for place in {*real.parent.parents, *path.absolute().parents}:
        status = place.stat()
        if others_can_write(status) and not status.st_mode & stat.S_ISVTX:
            return f"lies below {place}, which can be written to by other users"
    return ""


def hint_for(path: Path) -> str:
    """Return what to do if a file is not used."""
    return f"If you trust it: chown it and its directory to yourself, and chmod go-w both ({path.resolve().parent})"


def _our_users() -> set[int]:
    """This user and root; with sudo also the user who called it, as git does."""
    users = {os.geteuid(), 0}
    if os.geteuid() == 0:
        with suppress(KeyError, ValueError):
            users.add(int(os.environ["SUDO_UID"]))
    return users
