"""The mounts of this node: pods that ask for the same share one, and each volume is a bind mount of it."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg_cache.private_directory import make_private

from fusepkg.csi.volumes import credentials_file
from fusepkg.daemon import control, mount_table, records
from fusepkg.engines import kernel
from fusepkg.errors import DaemonNotRunning, NotMounted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fusepkg.csi.mounter import Run
    from fusepkg.csi.volumes import Volume
    from fusepkg.daemon.records import MountRecord

log = logging.getLogger(__name__)

_SILENT_S = 10.0
"""A mount whose process has not answered for this long counts as dead: a supervisor replaces one within a second."""

_LOOK_S = 0.2


class SharedMounts:
    """The mounts below one directory, by name. Safe for threads that hold ``locked(name)`` while they change one."""

    def __init__(self, directory: Path, run: Run) -> None:
        make_private(directory)
        self._mounts = directory / "mounts"
        self._secrets = directory / "secrets"
        make_private(self._mounts)
        make_private(self._secrets)
        self._run = run
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def locked(self, name: str) -> threading.Lock:
        """Return the lock of a name."""
        with self._guard:
            return self._locks.setdefault(name, threading.Lock())

    def place(self, name: str) -> Path:
        """Return where a mount is, or would be."""
        return self._mounts / name

    def names(self) -> list[str]:
        """Return the names of all mounts, also of half-made ones."""
        return os.listdir(self._mounts)

    def device(self, name: str) -> str | None:
        """Return the kernel's number of what is mounted there, None where nothing is."""
        mounted = mount_table.top_mount(self.place(name))
        return mounted.device if mounted else None

    def provide(self, name: str, volume: Volume, secrets: Mapping[str, str]) -> None:
        """Make a mount unless it is there and answers; a dead one is replaced. New secrets reach one that is there.

        Raises what kept it from being made.
        """
        credentials = self._keep(name, secrets)
        place = self.place(name)
        if mount_table.mounted_at(place):
            if self.trouble(name) is None:
                return
            log.warning("the mount of %s is dead, and is made again", volume.package)
            self.end(name)
            credentials = self._keep(name, secrets)
        place.mkdir(exist_ok=True)
        supervise = ["--supervise"] if kernel.kernel_version() >= kernel.RESEND_KERNEL else []
        options = ["--allow-other", *supervise, *volume.arguments()]
        try:
            self._run(["mount", *options, "--", volume.package, str(place)], credentials)
        except BaseException:
            self._forget(name)
            raise

    def end(self, name: str) -> None:
        """Unmount, at once also where it is in use; its process ends with its last user."""
        with suppress(NotMounted):
            if mount_table.mounted_at(self.place(name)):
                self._run(["umount", "--lazy", "--", str(self.place(name))], None)
        self._forget(name)

    def _forget(self, name: str) -> None:
        with suppress(OSError):
            self.place(name).rmdir()
        (self._secrets / name).unlink(missing_ok=True)

    def trouble(self, name: str) -> str | None:
        """Return why what is mounted under a name serves nothing, None if it does."""
        until = time.monotonic() + _SILENT_S
        while True:
            record = self.record(name)
            if kernel.is_dead(self.place(name)):
                return "its process is dead"
            if record is None:  # it is lost, and the kernel says that somebody answers
                return None
            if record.failure:
                return record.failure
            if records.is_alive(record):
                return None
            if time.monotonic() > until:
                return "its process does not answer"
            time.sleep(_LOOK_S)

    def size(self, name: str) -> tuple[int, int]:
        """Return the bytes and the entries of the version that a mount shows. Raises DaemonNotRunning."""
        record = self.record(name)
        if record is None:
            raise DaemonNotRunning(f"nothing is known of the mount at {self.place(name)}")
        facts = control.ask(Path(record.socket), control.Question("status"))
        return facts["total_bytes"], facts["entries"]

    def record(self, name: str) -> MountRecord | None:
        """Return what is known of a mount."""
        place = str(self.place(name))
        return next((one for one in reversed(records.read_records()) if one.mountpoint == place), None)

    def _keep(self, name: str, secrets: Mapping[str, str]) -> Path | None:
        """Keep secrets in a file that only this user can read, and return it; None where there are none.

        The mount reads it again when they expire. In its environment they would be in the sight of `ps`.
        """
        if not secrets:
            return None
        text = credentials_file(secrets)
        draft, path = self._secrets / f".{name}", self._secrets / name
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        draft.rename(path)
        return path
