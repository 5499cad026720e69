"""Keeps what a mount's session hangs on, and starts a new worker when the one that serves it dies.

Run by its path in an interpreter of its own, and imports nothing but a little of the standard library: it is there for
as long as the mount, and must not fail for reasons a worker can fail for.

It is told, in messages of JSON over the socket whose number is its only argument: ``keep`` (a process to watch, how to
start the next, what to tell it, with descriptors), ``served`` (it has answered), ``state`` (what to tell the next one
from now on), ``close`` (a descriptor), ``next`` (the worker goes, and wants another one after it), ``end`` (the mount
ends).
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from contextlib import contextmanager, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing takes as long as all the rest
    from collections.abc import Iterator
    from typing import Any

MAX_MESSAGE_BYTES = 1 << 20
MAX_DESCRIPTORS = 8

CRASHES, CRASHES_S = 5, 30.0
"""So many workers that end by themselves (an error, a fault of memory) in so many seconds are the end: the next one
would do the same."""

UNSERVED = 20
"""So many workers in a row that end before they have answered anything are the end, whatever ends them. One that has
answered and is killed from outside, by kill -9 or by the kernel for want of memory, is replaced however often."""

SPARE_S = 60.0
"""For so long after a worker has died a spare process is kept. It has loaded all that a worker needs, which takes a
second of work, and forks the next ones, which takes milliseconds."""

SPARE = ("spare", "spare_process")
"""Names of the descriptors by which a worker keeps the spare for another supervisor: its link, and its process."""

_SET_DUMPABLE, _SET_CHILD_SUBREAPER = 4, 36
"""Of prctl(2)."""


LOOK_S, LOOKING_S = 1.0, 60.0
"""How often a worker is looked at, and for how long after it has said something, such as that it switches."""

_THREADS_S = 0.2
"""How long the other threads of a process may take to end after its main thread."""


class Worker:
    """A process that serves, or a spare. ``link`` leads to it; ``process`` is -1 if it had ended before.

    It is over when its main thread is. Another one may still be within the kernel, in a notification of a switch that
    waits for a reader, which waits for an answer of this very process: only the next process can end that. No
    descriptor tells of such an end, so it is looked for.
    """

    def __init__(self, pid: int, link: socket.socket, is_child: bool, process: int = -1) -> None:
        self.pid = pid
        self.link = link
        self.has_served = False
        self.is_child = is_child
        self.process = process
        self._is_ready = process >= 0  # a spare that another supervisor had
        if process < 0:
            with suppress(OSError):
                self.process = os.pidfd_open(pid)

    @classmethod
    def spawned(cls, command: list[str]) -> Worker:
        """Start one, which loads what it needs and then waits to be told what to serve."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            os.set_inheritable(theirs.fileno(), True)
            pid = os.posix_spawn(command[0], [*command, str(theirs.fileno())], os.environ)
        return cls(pid, ours, is_child=True)

    def is_ready(self) -> bool:
        """Return whether this process, a spare, has loaded all it needs."""
        if not self._is_ready:
            try:
                self._is_ready = bool(self.link.recv(MAX_MESSAGE_BYTES, socket.MSG_DONTWAIT))
            except OSError:
                return False
        return self._is_ready

    def fork(self, message: bytes, descriptors: list[int]) -> Worker | None:
        """Have this process, a spare, make a copy of itself, which serves what the message tells; None if it has died.

        The message is on its way before the copy is asked for, so that it is not lost if we are killed in between.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, _adopting():
            try:
                socket.send_fds(ours, [message], descriptors)
                socket.send_fds(self.link, [b'{"fork": true}'], [theirs.fileno()])
                told = self.link.recv(MAX_MESSAGE_BYTES)
            except OSError:
                told = b""
        if told:
            return Worker(json.loads(told)["pid"], ours, is_child=self.is_child)
        ours.close()
        return None

    def wait(self) -> int | None:
        """Wait for its end; return how it ended, as waitpid(2) does, or None if it is not our child or not over yet."""
        if self.process >= 0:
            while not self.is_over():
                select.select([self.process], [], [], LOOK_S / 10)
            os.close(self.process)
            self.process = -1
        self.link.close()
        return self.reap(_THREADS_S) if self.is_child else None

    def is_over(self) -> bool:
        """Return whether its main thread has ended."""
        if self.process < 0 or select.select([self.process], [], [], 0)[0]:
            return True
        try:
            with open(f"/proc/{self.pid}/stat", "rb") as file:
                return file.read().rpartition(b") ")[2][:1] in b"ZX"
        except OSError:  # it is out of our sight
            return False

    def reap(self, patience_s: float = 0.0) -> int | None:
        """Return how it ended; None if a thread of it has not yet, after so long, or if it is not our child."""
        try:
            whole = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        try:
            if not select.select([whole], [], [], patience_s)[0]:
                return None
            return os.waitpid(self.pid, 0)[1]
        except ChildProcessError:
            return None
        finally:
            os.close(whole)

    def kill(self) -> None:
        """End it at once."""
        if self.process >= 0:
            signal.pidfd_send_signal(self.process, signal.SIGKILL)
        self.wait()


class Supervisor:
    """One mount's. ``_kept`` are descriptors by name, which each worker gets."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._worker: Worker | None = None  # until the first message
        self._spare: Worker | None = None
        self._spare_until = 0.0
        self._looking_until = 0.0
        self._kept: dict[str, int] = {}
        self._facts: dict[str, Any] = {}
        self._crashes: list[float] = []
        self._unserved = 0
        self._unreaped: list[Worker] = []
        self._is_asked_for_next = False

    def run(self) -> None:
        """Watch workers until the mount ends, or until they die too often."""
        try:
            while self._look():
                pass
        finally:
            self._drop_spare()

    def _look(self) -> bool:
        """Wait for something to happen, and act on it; return False at the end of the mount."""
        watched, timeout = [self._link.fileno()], None
        if self._spare is not None:
            watched.append(self._spare.process)
            timeout = max(0.0, self._spare_until - time.monotonic())
        now = time.monotonic()
        if now < self._looking_until:
            timeout = LOOK_S if timeout is None else min(timeout, LOOK_S)
        found = select.select(watched, [], [], timeout)[0]
        if self._link.fileno() not in found:  # what the worker has said is read before its end is seen
            if self._spare is not None and (found or now >= self._spare_until):
                self._drop_spare()  # it has died, or was kept for long enough
            is_over = self._worker is not None and self._worker.is_over()
            return self._replace(self._worker) if self._worker is not None and is_over else True
        self._looking_until = now + LOOKING_S
        try:
            message, descriptors, _, _ = socket.recv_fds(self._link, MAX_MESSAGE_BYTES, MAX_DESCRIPTORS)
        except OSError:
            message, descriptors = b"", []
        if message:
            return self._take(json.loads(message), descriptors)
        return self._worker is not None and self._replace(self._worker)

    def _take(self, facts: dict[str, Any], descriptors: list[int]) -> bool:
        """Take a message in; return False at the end of the mount."""
        kind = facts.pop("kind")
        if kind == "keep":
            self._keep(facts, descriptors)
        elif kind == "state":
            self._facts["state"] = facts["state"]
        elif kind == "close":
            self._close(facts["name"])
        elif kind == "next":
            self._is_asked_for_next = True
        elif kind == "served" and self._worker is not None:
            self._worker.has_served = True
            if self._spare is None and time.monotonic() < self._spare_until:
                self._spare = Worker.spawned(self._facts["command"])
        return bool(kind != "end")

    def _keep(self, facts: dict[str, Any], descriptors: list[int]) -> None:
        for number in self._kept.values():
            os.close(number)
        for number in descriptors:
            os.set_inheritable(number, False)
        self._kept = dict(zip(facts.pop("names"), descriptors, strict=True))
        if self._worker is None:
            self._worker = Worker(facts["pid"], self._link, is_child=False)
            self._worker.has_served = True
        self._inherit_spare(facts.pop("spare", 0))
        if facts["is_troubled"]:
            self._spare_until = time.monotonic() + SPARE_S
        self._facts = facts

    def _inherit_spare(self, pid: int) -> None:
        """Take over the spare of a supervisor that was killed, which the worker has kept for its successor."""
        link, process = (self._kept.pop(name, -1) for name in SPARE)
        if link < 0:
            return
        if self._spare is None:
            self._spare = Worker(pid, socket.socket(fileno=link), is_child=False, process=process)
        else:
            os.close(link)
            os.close(process)

    def _close(self, name: str) -> None:
        if name in self._kept:
            os.close(self._kept.pop(name))

    def _replace(self, dead: Worker) -> bool:
        """Start the next worker once that one has ended; return False if it would do no better."""
        status = dead.wait()
        self._unreaped = [one for one in self._unreaped if one.reap() is None]
        if status is None and dead.is_child:
            self._unreaped.append(dead)
        if self._is_asked_for_next:
            self._is_asked_for_next = False
            self._drop_spare()  # it has the code that is to be replaced
        else:
            reason = self._why_no_more(dead, status)
            if reason:
                _say(f"{reason}: readers get errors from now on")
                _note_failure(self._facts["record"], reason)
                return False
            _say(f"process {dead.pid} has died, and is replaced")
            if self._spare is None or self._spare.is_child:  # of another's copies we do not hear how they end
                self._spare_until = time.monotonic() + SPARE_S
        self._worker = self._next_worker()
        self._link = self._worker.link
        return True

    def _next_worker(self) -> Worker:
        """Return a copy of the spare if it is ready; else the spare itself, or a new process."""
        state, kept = self._facts["state"], self._kept
        if self._spare is not None and self._spare.is_ready():
            spare = self._spare
            given = kept | dict(zip(SPARE, (spare.link.fileno(), spare.process), strict=True))
            message = json.dumps({"names": list(given), "state": state, "spare": spare.pid}).encode()
            if worker := spare.fork(message, list(given.values())):
                return worker
        worker, self._spare = self._spare or Worker.spawned(self._facts["command"]), None
        with suppress(OSError):  # it is dead already, and counts as a worker that was
            message = json.dumps({"names": list(kept), "state": state}).encode()
            socket.send_fds(worker.link, [message], list(kept.values()))
        return worker

    def _why_no_more(self, dead: Worker, status: int | None) -> str:
        """Return why no other worker is started after that one; "" if one is."""
        self._unserved = 0 if dead.has_served else self._unserved + 1
        if self._unserved >= UNSERVED:
            return f"its process died {UNSERVED} times before it had answered anything"
        if status is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            return ""
        now = time.monotonic()
        self._crashes = [at for at in self._crashes if now - at < CRASHES_S] + [now]
        if len(self._crashes) >= CRASHES:
            return f"its process died {CRASHES} times within {CRASHES_S:.0f} s"
        return ""

    def _drop_spare(self) -> None:
        if self._spare is not None:
            self._spare.kill()
            self._spare = None


@contextmanager
def _adopting() -> Iterator[None]:
    """Grandchildren whose parent ends meanwhile become our children, so that we hear how they end."""
    _prctl(_SET_CHILD_SUBREAPER, 1)  # without it, each end counts as a kill
    try:
        yield
    finally:
        _prctl(_SET_CHILD_SUBREAPER, 0)


def _prctl(what: int, value: int) -> None:
    """Call prctl(2), where the interpreter can."""
    with suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(what, value, 0, 0, 0)


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
    _prctl(_SET_DUMPABLE, 0)  # its environment may hold keys
    for number in (signal.SIGINT, signal.SIGHUP):  # meant for the worker
        signal.signal(number, signal.SIG_IGN)
    Supervisor(socket.socket(fileno=int(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
