"""Starting a mount in the background: fork, hear how it goes, come back when the directory is usable.

Owns: the fork, the pipe between the two, and what becomes of both when either dies. Must not know: what a mount does.

The child does all the work, beginning with the first request to the bucket, because threads and network clients do
not survive a fork. The parent shows the child's progress and ends with its error. A child that dies without a word
is an error too; a parent that is interrupted takes the child along.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from fusepkg.daemon.logs import log_path_for, log_to_file
from fusepkg.daemon.request import Event, Failed, Ready, Step
from fusepkg.errors import FusepkgError, MountFailed, error_from_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fusepkg.daemon.records import MountRecord
    from fusepkg.daemon.request import MountRequest


@dataclass(frozen=True, slots=True)
class StartingMount:
    """A mount being made in a child process."""

    child: int
    reading: int
    log_path: Path

    def follow(self, on_step: Callable[[Step], None]) -> MountRecord:
        """Wait until the directory is usable. Raises what kept the mount from being made."""
        with os.fdopen(self.reading, "rb", closefd=False) as lines:
            for line in lines:
                event = msgspec.json.decode(line, type=Event)
                if isinstance(event, Ready):
                    return event.record
                if isinstance(event, Failed):
                    raise error_from_code(event.code, event.message, event.hint)
                on_step(event)
        raise MountFailed(
            "the mount's process ended before the directory was usable", hint=f"Its log is {self.log_path}"
        )


@contextmanager
def start_mount(request: MountRequest) -> Iterator[StartingMount]:
    """Start a mount in a background process, which outlives the block unless the block ends with an error.

    Must be entered while the process has one thread.
    """
    log_path = log_path_for(request.cache_dir, request.mountpoint)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _run_child(request, log_path, writing)
    os.close(writing)
    try:
        yield StartingMount(child, reading, log_path)
    except BaseException:
        # Nothing half done is left: a child that has not mounted yet has nothing to undo, one that has, unmounts.
        _end(child)
        raise
    finally:
        os.close(reading)


def _run_child(request: MountRequest, log_path: Path, writing: int) -> None:
    """Never returns."""
    status = 1
    try:
        os.setsid()
        log_to_file(log_path, debug=request.debug)
        from fusepkg.daemon.serving import run_mount  # here, so that the parent need not load what it never uses

        def announce(event: Event) -> None:
            os.write(writing, msgspec.json.encode(event) + b"\n")
            if isinstance(event, Ready):
                os.close(writing)

        try:
            run_mount(request, str(log_path), announce)
            status = 0
        except FusepkgError as exc:
            announce(Failed(exc.code, exc.message, exc.hint))
    except BaseException:
        import logging

        logging.getLogger(__name__).exception("the mount ended with an error")
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def _end(child: int) -> None:
    try:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
