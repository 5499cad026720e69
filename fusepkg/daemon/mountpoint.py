"""Whether a directory can be mounted on."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg.daemon.mount_table import mounted_at
from fusepkg.daemon.records import locked, read_records
from fusepkg.errors import MountpointUnfit

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def claimed_mountpoint(path: Path) -> Iterator[Path]:
    """Check a mountpoint and lock it: while the block runs, no other process of this user can claim it."""
    mountpoint = checked_mountpoint(path)
    with locked(hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:16]) as is_ours:
        if not is_ours:
            raise MountpointUnfit(
                f"{path} is being mounted on already, by another fusepkg", hint="Wait for it, or take another directory"
            )
        yield checked_mountpoint(mountpoint)  # once more: the other may have finished just before


def checked_mountpoint(path: Path) -> Path:
    """Return the absolute path, links resolved, of an empty directory that is no mountpoint. Raises MountpointUnfit."""
    absolute = Path(os.path.abspath(path))
    if not _is_utf8(absolute):
        raise MountpointUnfit(f"the path {os.fsencode(path)!r} is not UTF-8", hint="Mount on a directory whose path is")
    for record in read_records():
        if record.mountpoint == str(absolute) and mounted_at(absolute):
            raise MountpointUnfit(
                f"{path} is mounted already: {record.reference} ({record.top_hash[:9]})",
                hint=f"`fusepkg umount {path}` first",
            )
    try:
        resolved = absolute.resolve(strict=True)
        if not resolved.is_dir():
            raise MountpointUnfit(f"{path} is a file, not a directory", hint="Name an empty directory")
        if mounted_at(resolved):
            raise MountpointUnfit(f"{path} is a mountpoint already", hint=f"`umount {path}` first, or take another")
        with os.scandir(resolved) as entries:
            first = next(entries, None)
    except FileNotFoundError as exc:
        raise MountpointUnfit(f"{path} does not exist", hint=f"`mkdir -p {path}` first") from exc
    except NotADirectoryError as exc:
        raise MountpointUnfit(f"{path} runs through a file", hint="Name an empty directory") from exc
    except OSError as exc:
        raise MountpointUnfit(
            f"{path} cannot be used: {exc.strerror}", hint=f"If a dead mount is left there: `umount {path}`"
        ) from exc
    if first is not None:
        raise MountpointUnfit(
            f"{path} is not empty: it has {first.name!r}", hint="A mount would hide it; name an empty directory"
        )
    return resolved


def _is_utf8(path: Path) -> bool:
    """Return whether a path is UTF-8. Records and messages about a mount are JSON, which cannot hold others."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
