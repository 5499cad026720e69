"""Keeps what a mount's session hangs on, and starts a new worker when the one that serves it dies.

Run by its path in an interpreter of its own, and imports nothing but a little of the standard library: it is there for
as long as the mount, and must not fail for reasons a worker can fail for.

It is told, in messages of JSON over the socket whose number is its only argument: ``keep`` (a process to watch, how to
start the next, what to tell it, with descriptors), ``state`` (what to tell the next one from now on), ``close`` (a
descriptor), ``next`` (the worker goes, and wants another one after it), ``end`` (the mount ends).
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing takes as long as all the rest
    from typing import Any

MAX_MESSAGE_BYTES = 1 << 20
MAX_DESCRIPTORS = 8

CRASHES, CRASHES_S = 5, 30.0
"""So many ends of workers in so many seconds are the end: the next one would die too."""


class Supervisor:
    """One mount's. ``_kept`` are descriptors by name, which each worker gets."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._kept: dict[str, int] = {}
        self._facts: dict[str, Any] = {}
        self._worker = -1
        self._pid = 0
        self._ends: list[float] = []
        self._is_asked_for_next = False

    def run(self) -> None:
        """Watch workers until the mount ends, or until they die too often."""
        while True:
            try:
                message, descriptors, _, _ = socket.recv_fds(self._link, MAX_MESSAGE_BYTES, MAX_DESCRIPTORS)
            except OSError:
                message, descriptors = b"", []
            if not message:  # the worker dies, after its last word
                select.select([self._worker], [], [])
                if not self._start_next():
                    return
            elif not self._take(json.loads(message), descriptors):
                return

    def _take(self, facts: dict[str, Any], descriptors: list[int]) -> bool:
        """Take a message in; return False at the end of the mount."""
        kind = facts.pop("kind")
        if kind == "keep":
            for number in [*self._kept.values(), self._worker]:
                if number >= 0:
                    os.close(number)
            for number in descriptors:
                os.set_inheritable(number, False)
            self._kept = dict(zip(facts.pop("names"), descriptors, strict=True))
            self._pid = facts.pop("pid")
            self._worker = os.pidfd_open(self._pid)
            self._facts = facts
        elif kind == "state":
            self._facts["state"] = facts["state"]
        elif kind == "close":
            self._close(facts["name"])
        elif kind == "next":
            self._is_asked_for_next = True
        return bool(kind != "end")

    def _close(self, name: str) -> None:
        if name in self._kept:
            os.close(self._kept.pop(name))

    def _start_next(self) -> bool:
        self._reap()
        if self._is_asked_for_next:
            self._is_asked_for_next = False
        else:
            now = time.monotonic()
            self._ends = [at for at in self._ends if now - at < CRASHES_S] + [now]
            _say(f"process {self._pid} has died, and is replaced")
        if len(self._ends) >= CRASHES:
            reason = f"its process died {CRASHES} times within {CRASHES_S:.0f} s"
            _say(f"{reason}: readers get errors from now on")
            _note_failure(self._facts["record"], reason)
            return False
        self._link.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        os.set_inheritable(theirs.fileno(), True)
        command = [*self._facts["command"], str(theirs.fileno())]
        self._pid = os.posix_spawn(command[0], command, os.environ)
        self._worker = os.pidfd_open(self._pid)
        theirs.close()
        self._link = ours
        message = json.dumps({"names": list(self._kept), "state": self._facts["state"]}).encode()
        with suppress(OSError):  # it is dead already
            socket.send_fds(ours, [message], list(self._kept.values()))
        return True

    def _reap(self) -> None:
        if self._worker >= 0:
            os.close(self._worker)
            self._worker = -1
        with suppress(ChildProcessError):  # the first one is not our child
            os.waitpid(self._pid, os.WNOHANG)


def _note_failure(record: str, reason: str) -> None:
    """Write into the mount's record why it failed."""
    try:
        with open(record, encoding="utf-8") as file:
            facts = json.load(file)
        facts["failure"] = reason
        with open(f"{record}.draft", "w", encoding="utf-8") as file:
            json.dump(facts, file)
        os.rename(f"{record}.draft", record)
    except (OSError, ValueError) as exc:
        _say(f"{record} cannot be written: {exc}")


def _say(text: str) -> None:
    """Write a line to standard error, which is the mount's log."""
    with suppress(OSError):
        os.write(2, f"{time.strftime('%Y-%m-%d %H:%M:%S')} WARNING supervisor: {text}\n".encode())


def main() -> None:
    """Be the supervisor of a mount."""
    for number in (signal.SIGINT, signal.SIGHUP):  # meant for the worker
        signal.signal(number, signal.SIG_IGN)
    Supervisor(socket.socket(fileno=int(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
