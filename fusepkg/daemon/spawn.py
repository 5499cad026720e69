"""Start a mount from a program that may have threads: in a fresh interpreter, not by a fork.

A forked child of a program with threads may find any lock held for ever. So programs that import fusepkg start their
mounts this way; the command line, which has one thread, forks, which is quicker (``start``).
"""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg.daemon.logs import log_path_for
from fusepkg.daemon.start import StartingMount, end_child, run_child
from fusepkg.work.descriptors import open_standard_streams

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusepkg.daemon.records import MountRecord
    from fusepkg.daemon.request import MountRequest, Step

_EVENTS = 3
"""The descriptor on which the new process tells how it goes; it reads the request from its standard input."""

_PROGRAM = (
    f"import sys; sys.path.append({str(Path(__file__).parents[2])!r}); "
    "from fusepkg.daemon.spawn import be_spawned; be_spawned()"
)
"""The new interpreter finds fusepkg where this one did, whatever has been done to its path since."""


def spawn_mount(request: MountRequest, on_step: Callable[[Step], None] = lambda _step: None) -> MountRecord:
    """Start a mount in a process of its own and come back when the directory is usable.

    Raises what kept the mount from being made; then nothing of it is left.
    """
    request = request.absolute()
    reading, telling = os.pipe()
    listening, writing = os.pipe()
    try:
        actions = [(os.POSIX_SPAWN_DUP2, listening, 0), (os.POSIX_SPAWN_DUP2, telling, _EVENTS)]
        child = os.posix_spawn(sys.executable, [sys.executable, "-c", _PROGRAM], os.environ, file_actions=actions)
    except BaseException:
        os.close(reading)
        os.close(writing)
        raise
    finally:
        os.close(telling)
        os.close(listening)
    try:
        with open(writing, "wb") as pipe:
            pickle.dump(request, pipe)  # it is our own process that reads it
        return (
            StartingMount(child, reading, log_path_for(request.settings.cache_dir, request.mountpoint))
            .follow(on_step)
            .record
        )
    except BaseException:
        end_child(child)
        raise
    finally:
        os.close(reading)


def be_spawned() -> None:
    """Read the request from standard input and run the mount. Never returns."""
    open_standard_streams()  # the program may have closed its own
    request: MountRequest = pickle.load(sys.stdin.buffer)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    run_child(request, log_path_for(request.settings.cache_dir, request.mountpoint), _EVENTS)
