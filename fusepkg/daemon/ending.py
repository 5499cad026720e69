"""Ending a mount from outside.

Owns: unmounting and waiting until the daemon is gone. Must not know: engines' insides, printing.
"""

from __future__ import annotations

import os
import select
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg.daemon import records
from fusepkg.engines import kernel
from fusepkg.errors import NotMounted

if TYPE_CHECKING:
    from fusepkg.daemon.records import MountRecord

END_TIMEOUT_S = 10
"""How long a daemon may take to end after its mount is gone: it only closes its files."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A mount that is gone from here. ``record`` is None where it was not known; ``still_served`` tells that its
    daemon goes on, because the mount lives on in another mount namespace (a container) or in a program's hands."""

    record: MountRecord | None
    still_served: bool


def end_mount(directory: Path, *, lazy: bool) -> Ended:
    """Unmount and, unless ``lazy``, wait for the daemon's end.

    Raises: MountpointBusy, NotMounted, MountFailed.
    """
    mountpoint = Path(os.path.abspath(directory))
    record = None
    try:
        record, inner = records.find_record(mountpoint)
        if inner != ".":
            raise NotMounted(
                f"{directory} lies inside the mount {record.mountpoint}", hint="Name the mount's directory"
            )
        mountpoint = Path(record.mountpoint)
    except NotMounted:
        if record is not None or not records.mounted_at(mountpoint):
            raise
    kernel.unmount(mountpoint, lazy=lazy)
    return Ended(record, still_served=record is not None and not lazy and not _has_ended(record))


def _has_ended(record: MountRecord) -> bool:
    try:
        process = os.pidfd_open(record.pid)
    except ProcessLookupError:
        has_ended = True
    else:
        has_ended = bool(select.select([process], [], [], END_TIMEOUT_S)[0])
        os.close(process)
    if has_ended:
        records.remove_record(record.mount_id)  # which a daemon that was killed has left
    return has_ended
