"""Start a mount in the background, follow the process's progress, return when the directory is usable.

The new process does all the work, beginning with the first request to the bucket. It is a fork where this process has
one thread, which is quickest; else a fresh interpreter, for a forked child of a program with threads may find any lock
held for ever. This process shows the progress of the other and raises its error. If that dies silently this one raises
MountFailed; if this one is interrupted it ends the other.
"""

from __future__ import annotations

import gc
import logging
import os
import pickle
import signal
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import msgspec

from fusepkg.daemon.logs import log_to_file
from fusepkg.daemon.request import Event, Failed, Ready, Step
from fusepkg.daemon.stacks import print_stacks_on_signal
from fusepkg.errors import FusepkgError, MountFailed, SystemFailure
from fusepkg.model.reported_error import error_from_code
from fusepkg.work.descriptors import open_standard_streams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fusepkg.daemon.records import MountRecord
    from fusepkg.daemon.request import MountRequest

log = logging.getLogger(__name__)

_EVENTS = 3
"""The descriptor on which a fresh interpreter tells its progress; it reads the request from its standard input."""

_PROGRAM = (
    f"import sys; sys.path.append({str(Path(__file__).parents[2])!r}); "
    "from fusepkg.daemon.start import be_spawned; be_spawned()"
)
"""The new interpreter finds fusepkg where this one did, whatever has been done to its path since."""


@dataclass(frozen=True, slots=True)
class StartingMount:
    """A mount being made in another process."""

    child: int
    reading: int
    log_path: Path | None

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


def spawn_mount(request: MountRequest) -> MountRecord:
    """Start a mount from a program that may have threads, and return when the directory is usable.

    Raises what kept the mount from being made; then nothing of it is left.
    """
    with start_mount(request, has_threads=True) as starting:
        return starting.follow(lambda _step: None).record


@contextmanager
def start_mount(request: MountRequest, *, has_threads: bool) -> Iterator[StartingMount]:
    """Start a mount in a background process, which outlives the block unless the block ends with an error."""
    request = request.in_background()
    reading, writing = os.pipe()
    try:
        child = _spawn(request, writing) if has_threads else _fork(request, writing)
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    try:
        yield StartingMount(child, reading, request.log)
    except BaseException:
        # SIGTERM leaves nothing behind: a child that has mounted unmounts before it ends.
        _end_child(child)
        raise
    finally:
        os.close(reading)


def _fork(request: MountRequest, writing: int) -> int:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # what waits to be written would be written by both
    child = os.fork()
    if child == 0:
        _run_child(request, writing)
    return child


def _spawn(request: MountRequest, writing: int) -> int:
    listening, asking = os.pipe()
    try:
        actions = [(os.POSIX_SPAWN_DUP2, listening, 0), (os.POSIX_SPAWN_DUP2, writing, _EVENTS)]
        child = os.posix_spawn(sys.executable, [sys.executable, "-c", _PROGRAM], os.environ, file_actions=actions)
    except BaseException:
        os.close(asking)
        raise
    finally:
        os.close(listening)
    try:
        with open(asking, "wb") as pipe:
            pickle.dump(request, pipe)  # it is our own process that reads it
    except BaseException:
        _end_child(child)
        raise
    return child


def be_spawned() -> None:
    """Read the request from standard input and run the mount. Never returns."""
    open_standard_streams()  # the program may have closed its own
    request: MountRequest = pickle.load(sys.stdin.buffer)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _run_child(request, _EVENTS)


def _run_child(request: MountRequest, writing: int) -> NoReturn:
    """Run a mount in this process to its end; report progress through the descriptor ``writing``."""
    status = 1
    try:
        _let_go(writing)
        assert request.log is not None, "`in_background` names it"
        tell = _Teller(writing, request.log)
        log_to_file(request.log, debug=request.settings.debug)
        print_stacks_on_signal()
        try:
            gc.disable()
            from fusepkg.daemon.serve import run_mount  # here, so that the parent need not load what it never uses

            gc.freeze()  # modules are no garbage: they are never looked through
            gc.enable()
            run_mount(request, tell)
            status = 0
        except Exception as exc:  # noqa: BLE001 - the parent raises it
            tell.failed(exc)
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


class _Teller:
    """Tells the parent the progress of a starting mount, until the directory is usable."""

    def __init__(self, writing: int, log_path: Path) -> None:
        self._writing = writing
        self._log_path = log_path

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

    def failed(self, error: Exception) -> None:
        """Log what has ended the mount, and tell it."""
        if isinstance(error, FusepkgError):
            log.error("the mount ended: %s", error)
            self(Failed(error.code, error.message, error.hint))
        elif isinstance(error, OSError):
            log.error("the mount ended", exc_info=error)
            named = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
            hint = f"Its log has more: {self._log_path}"
            self(Failed(SystemFailure.code, f"{named}{error.strerror or error}", hint))
        else:
            log.error("the mount ended with a bug in fusepkg", exc_info=error)
            message = f"the mount failed, which is a bug in fusepkg: {error!r}"
            self(Failed(FusepkgError.code, message, f"See {self._log_path}"))


def _end_child(child: int) -> None:
    """End a child that is making a mount, and wait for it."""
    try:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
