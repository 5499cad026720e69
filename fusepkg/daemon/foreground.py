"""Stay for as long as a supervised mount, whose processes come and go."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg.daemon import records
from fusepkg.daemon.ending import ending_signals
from fusepkg.daemon.mount_table import mounted_at
from fusepkg.errors import MountFailed

if TYPE_CHECKING:
    from fusepkg.daemon.records import MountRecord

_LOOK_S = 1.0
_ENDING_LOOK_S = 0.05


def stay(mount: MountRecord) -> None:
    """Return when the mount has ended; a signal that ends processes ends it.

    Raises MountFailed where it is there but nothing serves it any more.
    """
    signals = ending_signals()
    is_ending, told = False, set[int]()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        while (now := _record_of(mount)) is not None and mounted_at(Path(now.mountpoint)):
            if now.failure or not records.is_alive(now):
                raise MountFailed(
                    f"{now.mountpoint}: {now.failure or 'all processes of the mount have died'}",
                    hint=f"Its log is {now.log}; `fusepkg mount --replace` makes the mount again",
                )
            _reap()
            if is_ending and now.pid not in told:  # a second signal would end a process at once
                told.add(now.pid)
                with suppress(ProcessLookupError):  # it has just died: the one that follows it is told too
                    os.kill(now.pid, signal.SIGTERM)
            if signal.sigtimedwait(signals, _ENDING_LOOK_S if is_ending else _LOOK_S) is not None:
                is_ending = True
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _reap() -> None:
    """Let go of processes that have ended: in a container, all whose parent has ended are our children."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _record_of(mount: MountRecord) -> MountRecord | None:
    return next((one for one in records.read_records() if one.mount_id == mount.mount_id), None)
