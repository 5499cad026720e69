"""Start a mount in the background: fork, follow the child's progress, return when the directory is usable.

The child does all the work, beginning with the first request to the bucket, because threads and network clients do
not survive a fork. The parent shows the child's progress and raises its error. If the child dies silently the parent
raises MountFailed; if the parent is interrupted it ends the child.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import msgspec

from fusepkg.daemon.logs import log_path_for, log_to_file
from fusepkg.daemon.request import Event, Failed, Ready, Step
from fusepkg.daemon.stacks import print_stacks_on_signal
from fusepkg.errors import FusepkgError, MountFailed, SystemFailure
from fusepkg.model.reported_error import error_from_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fusepkg.daemon.request import MountRequest

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StartingMount:
    """A mount being made in a child process."""

    child: int
    reading: int
    log_path: Path

    def follow(self, on_step: Callable[[Step], None]) -> Ready:
        """Wait until the directory is usable. Raises what kept the mount from being made."""
        with os.fdopen(self.reading, "rb", closefd=False) as lines:
            for line in lines:
                event = msgspec.json.decode(line, type=Event)
                if isinstance(event, Ready):
                    return event
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
    request = request.absolute()
    log_path = log_path_for(request.settings.cache_dir, request.mountpoint)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # what waits to be written would be written by both
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        run_child(request, log_path, writing)
    os.close(writing)
    try:
        yield StartingMount(child, reading, log_path)
    except BaseException:
        # SIGTERM leaves nothing behind: a child that has mounted unmounts before it ends.
        end_child(child)
        raise
    finally:
        os.close(reading)


def run_child(request: MountRequest, log_path: Path, writing: int) -> NoReturn:
    """Run a mount in this process to its end; report progress through the descriptor ``writing``."""
    status = 1
    try:
        _let_go(writing)
        log_to_file(log_path, debug=request.settings.debug)
        print_stacks_on_signal()
        status = _serve(request, log_path, _Teller(writing))
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def _let_go(kept: int) -> None:
    """Leave the caller's session and directory, and close all descriptors but the standard ones and ``kept``."""
    os.setsid()
    os.chdir("/")
    os.closerange(3, kept)
    os.closerange(kept + 1, _descriptor_limit())


def _descriptor_limit() -> int:
    return max(int(name) for name in os.listdir("/proc/self/fd")) + 1


def _serve(request: MountRequest, log_path: Path, tell: _Teller) -> int:
    gc.disable()
    from fusepkg.daemon.serve import run_mount  # here, so that the parent need not load what it never uses

    gc.freeze()  # modules are no garbage: they are never looked through
    gc.enable()
    try:
        run_mount(request, str(log_path), tell)
    except FusepkgError as exc:
        log.error("the mount ended: %s", exc)
        tell(Failed(exc.code, exc.message, exc.hint))
    except OSError as exc:
        log.exception("the mount ended")
        named = f"{os.fsdecode(exc.filename)}: " if isinstance(exc.filename, str | bytes) else ""
        tell(Failed(SystemFailure.code, f"{named}{exc.strerror or exc}", f"Its log has more: {log_path}"))
    except Exception as exc:
        log.exception("the mount ended with a bug in fusepkg")
        tell(Failed(FusepkgError.code, f"the mount failed, which is a bug in fusepkg: {exc!r}", f"See {log_path}"))
    else:
        return 0
    return 1


class _Teller:
    """Tells the parent the progress of a starting mount, until the directory is usable."""

    def __init__(self, writing: int) -> None:
        self._writing = writing

    def __call__(self, event: Event) -> None:
        if self._writing < 0:
            return
        try:
            os.write(self._writing, msgspec.json.encode(event) + b"\n")
        except BrokenPipeError as exc:
            log.info("whoever asked for the mount is gone, so it is not made")
            raise SystemExit(1) from exc
        if isinstance(event, Ready):
            os.close(self._writing)
            self._writing = -1


def end_child(child: int) -> None:
    """End a child that is making a mount, and wait for it."""
    try:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
