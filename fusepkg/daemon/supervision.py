"""A worker's side of supervision: it has a supervisor keep what the next worker needs, and replaces one that dies."""

from __future__ import annotations

import json
import logging
import os
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import trio

from fusepkg.daemon import supervisor
from fusepkg.engines import kernel
from fusepkg.engines.handlers import UNDER_WAY
from fusepkg.errors import EngineUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

MOST_ENDS, MOST_ENDS_S = 20, 10.0
"""So many supervisors that end in so many seconds are no accident: the mount goes on without one."""

_LOOK_S = 0.1
"""How often a worker that goes on with a mount looks whether it has answered."""

_CREDENTIALS = struct.Struct("=iII")
"""Of the process at the other end of a socket: its number, its user, its group."""

_NEXT_WORKER = (
    f"import sys; sys.path.append({str(Path(__file__).parents[2])!r}); "
    "from fusepkg.daemon.resume import be_resumed; be_resumed()"
)


def require_kernel() -> None:
    """Raise EngineUnavailable if this kernel cannot ask again what a process has left unanswered."""
    if kernel.kernel_version() < kernel.RESEND_KERNEL:
        major, minor = kernel.RESEND_KERNEL
        raise EngineUnavailable(
            f"mounts survive their processes on Linux {major}.{minor} or newer, this is {os.uname().release}",
            hint="Mount without --supervise",
        )


class Supervision:
    """Of one mount; all on one trio thread. ``tell`` gives what the next worker is told, ``descriptors`` what it gets.

    ``on_supervisor`` hears the number of the supervisor's process, None if there is none any more. ``link`` leads to
    the supervisor that has started this worker. ``spare`` are the descriptors of the process from which it was forked,
    by name, and its ``pid``: kept for the next supervisor.
    """

    def __init__(
        self,
        record: Path,
        tell: Callable[[], dict[str, Any]],
        descriptors: Callable[[], dict[str, int]],
        on_supervisor: Callable[[int | None], None],
        link: socket.socket | None = None,
        spare: dict[str, int] | None = None,
    ) -> None:
        self.pid: int | None = _maker_of(link) if link is not None else None
        self._record = record
        self._tell = tell
        self._descriptors = descriptors
        self._on_supervisor = on_supervisor
        self._link = link
        self._spare = spare or {}
        self._has_ended = False
        self._is_troubled = False

    def start(self) -> None:
        """Start a supervisor if there is none, or if it has died while this process started."""
        if self._link is not None and _has_ended(self._link):
            log.warning("the supervisor has died meanwhile, and is replaced")
            self._is_troubled = True
            self._forget()
        if self._link is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                number = os.dup(theirs.fileno())
                os.set_inheritable(number, True)
                try:
                    command = [sys.executable, "-I", "-S", supervisor.__file__, str(number)]
                    self.pid = os.posix_spawn(sys.executable, command, os.environ, setsid=True)
                finally:
                    os.close(number)
            self._link = ours
        self.keep()
        self._on_supervisor(self.pid)

    def keep(self) -> None:
        """Have the supervisor watch this process, and keep what it has now."""
        kept = self._descriptors() | self._spare_descriptors()
        facts = {
            "kind": "keep",
            "pid": os.getpid(),
            "command": [sys.executable, "-c", _NEXT_WORKER],
            "record": str(self._record),
            "names": list(kept),
            "state": self._tell(),
            "is_troubled": self._is_troubled,
            "spare": self._spare.get("pid", 0),
        }
        self._send(facts, list(kept.values()))

    def _spare_descriptors(self) -> dict[str, int]:
        return {name: self._spare[name] for name in supervisor.SPARE if name in self._spare}

    async def tell_served(self, served_bytes: Callable[[], int]) -> None:
        """Tell the supervisor, once requests have been answered or none are waiting."""
        while UNDER_WAY.count and not served_bytes():  # noqa: ASYNC110 - answers wake nobody up, for speed
            await trio.sleep(_LOOK_S)
        self._send({"kind": "served"})

    def changed(self) -> None:
        """Have the next worker told what is so now."""
        self._send({"kind": "state", "state": self._tell()})

    def close(self, name: str) -> None:
        """Have a descriptor let go."""
        self._send({"kind": "close", "name": name})

    def end(self) -> None:
        """Have the supervisor end: the mount ends as it should."""
        self._has_ended = True
        self._send({"kind": "end"})

    def hand_over(self) -> NoReturn:
        """End this process; the next one goes on."""
        self.changed()
        self._send({"kind": "next"})
        os._exit(0)

    def _send(self, facts: dict[str, Any], descriptors: list[int] | None = None) -> None:
        if self._link is not None:
            with suppress(OSError):  # it is dead: its successor is told all
                socket.send_fds(self._link, [json.dumps(facts).encode()], descriptors or [])

    async def run(self) -> None:
        """Replace supervisors that die, until they do so too often."""
        ends: list[float] = []
        while self._link is not None:
            await trio.lowlevel.wait_readable(self._link)  # it never says anything: this is its end
            if self._has_ended:
                return
            self._forget()
            now = trio.current_time()
            ends = [at for at in ends if now - at < MOST_ENDS_S] + [now]
            if len(ends) >= MOST_ENDS:
                log.error("supervisors die too often: this mount goes on without one")
                self._on_supervisor(None)
                return
            log.warning("the supervisor, process %s, has died, and is replaced", self.pid)
            self._is_troubled = True
            self.start()
            self._send({"kind": "served"})

    def _forget(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = None
        if self.pid is not None:
            with suppress(ChildProcessError):  # it may be our parent and not our child
                os.waitpid(self.pid, os.WNOHANG)


def _maker_of(link: socket.socket) -> int:
    """Return the process that has made a pair of sockets."""
    credentials = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[0])


def _has_ended(link: socket.socket) -> bool:
    """Return whether the supervisor behind a link is dead: it never says anything after its first message."""
    try:
        return not link.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
