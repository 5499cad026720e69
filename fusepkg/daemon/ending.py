"""What ends a mount: its session, an unmount, its owner's end, a signal."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import trio

from fusepkg.engines.handlers import UNDER_WAY
from fusepkg.errors import MountFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

log = logging.getLogger(__name__)

CHECK_DETACHED_S = 1.0
"""How often a mount looks whether it is still mounted."""

END_S = 3.0
"""How long requests that hang may hold up the end of a mount's process. `umount` waits 10 s in all."""


async def watch_session(
    session_end: Callable[[], Awaitable[None]], is_mounted: Callable[[], bool], stop: trio.Event
) -> None:
    """End when the session has ended. Raises MountFailed if the mount is still there: it was aborted, not unmounted.

    The error leaves the mount in the table, so that readers get errors and no empty directory.
    """
    await session_end()
    if not stop.is_set() and is_mounted():
        raise MountFailed("the kernel ended the session of a mount that nobody unmounted")
    stop.set()


async def watch_detached(is_mounted: Callable[[], bool], served_bytes: Callable[[], int], stop: trio.Event) -> None:
    """End once nothing has been answered for some seconds, although asked, after the mount has left the table.

    The kernel ends a session only when its last request is answered, and that may hang on its bucket for minutes.
    Programs that still have files open after a lazy unmount are served until then.
    """
    while is_mounted():  # noqa: ASYNC110 - the kernel tells a trio task of no change of its table
        await trio.sleep(CHECK_DETACHED_S)
    served, quiet_s = served_bytes(), 0.0
    while quiet_s < END_S:
        await trio.sleep(1)
        is_quiet = UNDER_WAY.count > 0 and served_bytes() == served
        served, quiet_s = served_bytes(), quiet_s + 1 if is_quiet else 0.0
    log.warning("ending with requests that hang: it was unmounted, and nothing was answered for %d s", END_S)
    stop.set()


async def watch_owner(owner: int, stop: trio.Event) -> None:
    """End the mount when the program has ended it was made for, by whatever signal. Forks of it do not count."""
    process = _open_process(owner)
    if process is not None:
        try:
            await trio.lowlevel.wait_readable(process)
        finally:
            os.close(process)
    log.info("ending with the program that asked for the mount, process %d", owner)
    stop.set()


def _open_process(owner: int) -> int | None:
    """Return a descriptor of our parent; None where that has ended, and its number may be another's."""
    try:
        process = os.pidfd_open(owner)
    except ProcessLookupError:
        return None
    if os.getppid() == owner:
        return process
    os.close(process)
    return None


def end_within(seconds: float, clean_up: Callable[[], None]) -> None:
    """End this process after so many seconds, whatever still hangs: a request, a thread, a file system."""

    def end() -> None:
        time.sleep(seconds)
        log.warning("something still hangs %d s after the end of the mount, and is left behind", seconds)
        clean_up()
        os._exit(0)

    threading.Thread(target=end, name="fusepkg-end", daemon=True).start()


async def watch_signals(stop: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
    """Set ``stop`` on the first signal that ends a mount; a second one ends the process at once."""
    with trio.open_signal_receiver(*ending_signals()) as signals:
        task_status.started()
        is_ending = False
        async for number in signals:
            log.info("ending on %s", signal.Signals(number).name)
            if is_ending:
                os._exit(128 + number)  # the user is in more of a hurry than whatever still holds us
            is_ending = True
            stop.set()


def ending_signals() -> list[signal.Signals]:
    """Those that end a mount; a hangup does not where it is ignored, as under nohup(1)."""
    hangup = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGTERM, signal.SIGINT, *hangup]


@contextmanager
def signals_unwind() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as an error does, so that it removes its temporary files."""

    def unwind(number: int, _frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, unwind) for number in ending_signals() if number != signal.SIGINT}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
