"""Ending a mount from outside.

Owns: unmounting and waiting until the daemon is gone. Must not know: engines' insides, printing.
"""

from __future__ import annotations

import os
import select
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg.daemon import records
from fusepkg.engines import kernel
from fusepkg.errors import MountFailed, NotMounted

if TYPE_CHECKING:
    from fusepkg.daemon.records import MountRecord

END_TIMEOUT_S = 20
"""How long a daemon may take to end after its mount is gone: it only closes its files."""


def end_mount(directory: Path, *, lazy: bool) -> MountRecord | None:
    """Unmount and, unless ``lazy``, wait for the daemon's end; gives the mount's record if there was one.

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
    if record is not None and not lazy:
        _wait_for_end(record)
    return record


def _wait_for_end(record: MountRecord) -> None:
    try:
        process = os.pidfd_open(record.pid)
    except ProcessLookupError:
        records.remove_record(record.mount_id)
        return
    try:
        if not select.select([process], [], [], END_TIMEOUT_S)[0]:
            raise MountFailed(
                f"{record.mountpoint} is unmounted, but its daemon (process {record.pid}) goes on",
                hint=f"A program may still hold one of its files open; its log is {record.log}",
            )
    finally:
        os.close(process)
