"""Mounts whose process was killed: programs get ENOTCONN from them, or no answer. They are found and unmounted."""

from __future__ import annotations

import errno
import logging
import os
import threading
from contextlib import suppress
from pathlib import Path

from fusepkg.daemon import mount_table, records
from fusepkg.engines import kernel
from fusepkg.errors import NotMounted

log = logging.getLogger(__name__)

_ANSWER_TIMEOUT_S = 2.0
"""How long a mount may take to answer a question about its root: a daemon does so in milliseconds."""


def remove_dead_hidden_mounts() -> None:
    """Unmount hidden FUSE mounts of daemons that were killed before their EROFS mount was made."""
    for mount in mount_table.mount_table():
        path = Path(os.fsdecode(mount.path))
        is_hidden = mount.kind == b"fuse.fusepkg" and path.name.startswith(kernel.HIDDEN_PREFIX)
        if is_hidden and mount.owner == os.geteuid() and is_dead(path):
            log.info("removing a mount that a killed process left: %s", path)
            with suppress(OSError, NotMounted):
                kernel.unmount(path, lazy=True)
                path.rmdir()


def remove_dead_mount(mountpoint: Path) -> bool:
    """Unmount a mountpoint if its mount is this user's and its process is dead; return whether that was so."""
    top = mount_table.top_mount(mountpoint)
    if top is None or not top.is_ours or top.owner != os.geteuid():
        return False
    known = [record for record in records.read_records() if record.mountpoint == str(mountpoint)]
    if any(records.is_alive(record) for record in known) or not (known or is_dead(mountpoint)):
        return False
    log.info("%s: unmounting what a killed process left there", mountpoint)
    with suppress(NotMounted):
        kernel.unmount(mountpoint, lazy=True)
    for record in known:
        records.remove_record(record.mount_id)
    return True


def is_dead(mountpoint: Path) -> bool:
    """Return whether the kernel says that a mount's process is gone. Asks in a thread: a stopped one never answers."""
    answers: list[int] = []

    def ask() -> None:
        try:
            os.statvfs(mountpoint)
        except OSError as exc:
            answers.append(exc.errno or 0)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_ANSWER_TIMEOUT_S)
    return answers == [errno.ENOTCONN]
