"""Start, instruct and replace the workers: processes that answer requests from the cache beside this one."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import trio

from fusepkg.engines import kernel, notifications
from fusepkg.engines.front import fork_front, spawn_front
from fusepkg.engines.shared import SharedMemory

if TYPE_CHECKING:
    from fusepkg.engines.relay import Relay

log = logging.getLogger(__name__)

MOST = 16
"""Workers of a mount at most: all read their requests from one descriptor, so more would wait for each other."""

_DEATHS, _DEATHS_S = 5, 30.0
"""After this many deaths within this many seconds no worker is started any more."""

_LOOK_S = 2.0
"""Seconds between looks for stopped workers."""

_END_S = 1.0
"""Seconds that workers get to end by themselves."""

_REQUESTS_BYTES = 1024 * 1024


class Crew:
    """All workers of a mount. ``forked`` were started before this process had threads: process number and socket."""

    def __init__(self, forked: list[tuple[int, socket.socket]]) -> None:
        self._waiting = forked
        self.size = len(forked)
        """How many others there are, if none has just died."""
        self._live: dict[int, int] = {}
        self._children = {pid for pid, _ in forked}
        self._deaths: list[float] = []
        self.shared = SharedMemory.created(1 + self.size)
        self._requests, self._given = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._requests.setblocking(False)
        self._given.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _REQUESTS_BYTES)

    @property
    def is_wanted(self) -> bool:
        """Whether there are workers: then requests go through a relay."""
        return self.size > 0

    @property
    def pids(self) -> list[int]:
        """Process numbers of the workers that serve now."""
        return sorted(self._live.values())

    def close(self) -> None:
        """Wait for the workers that are left, then kill them. Blocks for 1 s at most."""
        for _, link in self._waiting:
            link.close()
        deadline = time.monotonic() + _END_S
        self._reap()
        while self._children and time.monotonic() < deadline:
            time.sleep(_END_S / 200)
            self._reap()
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self._children.clear()

    def _reap(self) -> None:
        """Forget workers that have ended, and kill those that were stopped: a request that one has read would wait."""
        for pid in sorted(self._children):
            found, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
            if found and os.WIFSTOPPED(status):
                log.warning("process %d, which answered from the cache, was stopped, and is killed", pid)
                os.kill(pid, signal.SIGKILL)
            elif found:
                self._children.discard(pid)

    def start(self, relay: Relay, told: dict[str, Any], nursery: trio.Nursery) -> None:
        """Let the workers serve, in tasks of ``nursery``; ``told`` is what each ``Front`` has to know."""
        if self.size:
            nursery.start_soon(relay.take_passed_on, self._requests)
        for slot in range(1, self.size + 1):
            nursery.start_soon(self._keep, slot, relay, told | {"slot": slot, "slots": 1 + self.size})

    async def _keep(self, slot: int, relay: Relay, told: dict[str, Any]) -> None:
        """Serve with one worker, and with the next one when it dies."""
        pid, link = self._waiting[slot - 1]
        while True:
            try:
                await self._serve_with(slot, pid, link, relay, told)
            finally:
                link.close()
                self._reap()
            if relay.is_closed:
                return
            with suppress(OSError):
                notifications.ask_again(relay.device)
            now = time.monotonic()
            self._deaths = [at for at in self._deaths if now - at < _DEATHS_S] + [now]
            if len(self._deaths) >= _DEATHS:
                log.warning("the processes beside this one died %d times; it goes on alone", _DEATHS)
                return
            log.warning("process %d, which answered from the cache, has died, and is replaced", pid)
            pid, link = spawn_front()
            self._children.add(pid)

    async def _serve_with(self, slot: int, pid: int, link: socket.socket, relay: Relay, told: dict[str, Any]) -> None:
        link.setblocking(False)
        with suppress(OSError):
            descriptors = [relay.device, self._given.fileno(), self.shared.descriptor]
            socket.send_fds(link, [json.dumps(told).encode()], descriptors)
            await trio.lowlevel.wait_readable(link)
            if not link.recv(16):
                return
            self._live[slot] = pid
            try:
                await relay.stop_reading()  # two that wait for one request would block this one
                link.send(b"g")
                while True:
                    with trio.move_on_after(_LOOK_S):
                        await trio.lowlevel.wait_readable(link)  # its end
                        break
                    self._reap()
            finally:
                del self._live[slot]
                if not self._live:
                    relay.read_again()


def forked_fronts(count: int | None) -> list[tuple[int, socket.socket]]:
    """Start so many processes that will answer from the cache (None: none); none either where that cannot be.

    The kernel must ask again what a dead one has left (Linux 6.9), and this process must have one thread.
    """
    if not count or kernel.kernel_version() < kernel.RESEND_KERNEL or len(os.listdir("/proc/self/task")) > 1:
        return []
    return [fork_front() for _ in range(min(count, MOST))]
