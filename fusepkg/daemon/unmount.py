"""End a mount from outside: unmount, and wait until its daemon is gone."""

from __future__ import annotations

import os
import select
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg.daemon import mount_table, records
from fusepkg.daemon.leftovers import remove_dead_hidden_mounts
from fusepkg.engines import kernel
from fusepkg.errors import DaemonNotRunning, NotMounted

if TYPE_CHECKING:
    from fusepkg.daemon.records import MountRecord

END_TIMEOUT_S = 10
"""How long a daemon may take to end after its mount is gone: it only closes its files."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A mount that is gone from here. ``record`` is None where it was not known; ``still_served`` tells that its
    daemon goes on: the mount lives on in another mount namespace (a container), or a fetch has not ended yet."""

    record: MountRecord | None
    still_served: bool


def end_mount(directory: Path, *, lazy: bool) -> Ended:
    """Unmount and, unless ``lazy``, wait for the daemon's end.

    Raises: MountpointBusy, MountFailed; NotMounted also where what is mounted there is not of fusepkg.
    """
    remove_dead_hidden_mounts()
    record = _record_at(directory)
    mountpoint = Path(record.mountpoint) if record else _lost_mountpoint(directory)
    top = mount_table.top_mount(mountpoint)
    if top and not top.is_ours and not (record and top.device == record.device):
        raise NotMounted(
            f"what is mounted at {mountpoint} is not of fusepkg but of type {os.fsdecode(top.kind)}",
            hint="umount(8) is for others",
        )
    process = _process_of(record) if record else None
    try:
        _unmount(mountpoint, record, lazy=lazy)
        if record is None or lazy:
            return Ended(record, still_served=False)
        return Ended(record, still_served=not _has_ended(record, process))
    finally:
        if process is not None:
            os.close(process)


def end_replaced(directory: Path) -> None:
    """End the mount of fusepkg at a directory, if there is one. A dead one is left to the next ``mount``.

    Raises: MountpointBusy, MountFailed.
    """
    record = _record_at(directory)
    is_alive = records.is_alive(record) if record else not kernel.is_dead(directory)
    if is_alive:
        with suppress(NotMounted):
            end_mount(directory, lazy=False)


def _record_at(directory: Path) -> MountRecord | None:
    try:
        record, inner = records.find_record(directory)
    except (NotMounted, DaemonNotRunning):
        return None
    if inner != ".":
        raise NotMounted(f"{directory} lies inside the mount {record.mountpoint}", hint="Name the mount's directory")
    return record


def _lost_mountpoint(directory: Path) -> Path:
    """Where a mount without a record is."""
    for spelling in (os.path.abspath(directory), os.path.realpath(directory)):
        if mount_table.mounted_at(Path(spelling)):
            return Path(spelling)
    raise NotMounted(f"{directory} is not a mount of yours", hint="`fusepkg mounts` lists them")


def _unmount(mountpoint: Path, record: MountRecord | None, *, lazy: bool) -> None:
    try:
        kernel.unmount(mountpoint, lazy=lazy)
    except NotMounted:
        if record is not None and not records.is_alive(record):
            records.remove_record(record.mount_id)
        raise


def _process_of(record: MountRecord) -> int | None:
    """A descriptor of the daemon, taken while it is known to be the process of that number; None if it is dead."""
    try:
        process = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return None
    if records.is_alive(record):
        return process
    os.close(process)
    return None


def _has_ended(record: MountRecord, process: int | None) -> bool:
    has_ended = process is None or bool(select.select([process], [], [], END_TIMEOUT_S)[0])
    if has_ended:
        records.remove_record(record.mount_id)  # which a daemon that was killed has left
    return has_ended
