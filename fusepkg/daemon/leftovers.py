"""Mounts whose process was killed: programs get ENOTCONN from them, or no answer. They are found and unmounted."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

from fusepkg.daemon import mount_table, records
from fusepkg.engines import kernel
from fusepkg.errors import NotMounted

log = logging.getLogger(__name__)


def remove_dead_hidden_mounts() -> None:
    """Unmount hidden FUSE mounts of daemons that were killed before their EROFS mount was made."""
    for mount in mount_table.mount_table():
        path = Path(os.fsdecode(mount.path))
        is_hidden = mount.kind == b"fuse.fusepkg" and path.name.startswith(kernel.HIDDEN_PREFIX)
        if is_hidden and mount.owner == os.geteuid() and kernel.is_dead(path):
            log.info("removing a mount that a killed process left: %s", path)
            with suppress(OSError, NotMounted):
                kernel.unmount(path, lazy=True)
                path.rmdir()


def remove_dead_mount(mountpoint: Path) -> bool:
    """Unmount a mountpoint if its mount is this user's and its process is dead; return whether that was so.

    Its record goes when records are read next: nothing is mounted there any more, and nobody answers.
    """
    top = mount_table.top_mount(mountpoint)
    if top is None or not top.is_ours or top.owner != os.geteuid():
        return False
    known = [record for record in records.read_records() if record.mountpoint == str(mountpoint)]
    if any(records.is_alive(record) for record in known) or not (known or kernel.is_dead(mountpoint)):
        return False
    log.info("%s: unmounting what a killed process left there", mountpoint)
    with suppress(NotMounted):
        kernel.unmount(mountpoint, lazy=True)
    return True
