"""Asynchronous reads by threads, for every store whose reads block."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from fusepkg.errors import FusepkgError, RemoteError, RemoteTimeout

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fusepkg.store.protocol import Answers, Deliver, Wanted

IDLE_S = 5.0
"""After so long without work a thread ends."""


class Get(Protocol):
    """``ObjectStore.get`` of one store."""

    def __call__(self, key: str, *, version: str | None, offset: int, length: int) -> bytes:
        """Read a part of one object."""
        ...


class ThreadedReads:
    """See AsyncReads: each read blocks a thread of this object's, made when needed and gone when idle.

    A read that is given up, or has run out of time, holds its thread until the call ends; its result is dropped.
    """

    def __init__(self, get: Get, deliver: Deliver) -> None:
        self._get = get
        self._outbox = Outbox(deliver)
        self._changed = threading.Condition()
        self._waiting: deque[Wanted] = deque()
        self._open: dict[int, tuple[Wanted, float | None]] = {}  # reads not answered yet, with their deadlines
        self._idle = 0
        self._watched = False
        self._closed = False

    def submit(self, wanted: Sequence[Wanted], *, timeout_s: float | None = None) -> None:
        """See AsyncReads."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            self._waiting.extend(wanted)
            self._open.update((one.ticket, (one, deadline)) for one in wanted)
            if deadline is not None and not self._watched:
                self._watched = True
                threading.Thread(target=self._watch, name="fusepkg-read-timeouts", daemon=True).start()
            for _ in range(len(self._waiting) - self._idle):
                threading.Thread(target=self._work, name="fusepkg-read", daemon=True).start()
            if self._watched:
                self._changed.notify_all()
            else:  # waking all idle threads for each read costs more than the read
                self._changed.notify(len(wanted))

    def cancel(self, tickets: Iterable[int]) -> None:
        """See AsyncReads."""
        with self._changed:
            for ticket in tickets:
                self._open.pop(ticket, None)

    def close(self) -> None:
        """See AsyncReads."""
        self._outbox.close()
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._open.clear()
            self._changed.notify_all()

    def _work(self) -> None:
        while (one := self._next()) is not None:
            answer: bytes | FusepkgError
            try:
                answer = self._get(one.key, version=one.version, offset=one.offset, length=one.length)
            except FusepkgError as exc:
                answer = exc
            except BaseException as exc:  # noqa: BLE001 - every read is answered, whatever a native library raises
                answer = RemoteError(f"{one.key} cannot be read: {exc!r}", hint="Please report this")
            with self._changed:
                wanted = self._is_open(one)
                if wanted:
                    del self._open[one.ticket]
            if wanted:
                self._outbox.put([(one.ticket, answer)])

    def _next(self) -> Wanted | None:
        with self._changed:
            while not self._closed:
                while self._waiting:
                    one = self._waiting.popleft()
                    if self._is_open(one):
                        return one
                self._idle += 1
                notified = self._changed.wait(IDLE_S)
                self._idle -= 1
                if not notified and not self._waiting:
                    return None
            return None

    def _is_open(self, one: Wanted) -> bool:
        """Whether a read is still wanted: its ticket may have been given to another since."""
        found = self._open.get(one.ticket)
        return found is not None and found[0] is one

    def _watch(self) -> None:
        """Answer what has run out of time, until no read has a deadline."""
        while True:
            with self._changed:
                now = time.monotonic()
                late = [ticket for ticket, (_, deadline) in self._open.items() if deadline and deadline <= now]
                for ticket in late:
                    del self._open[ticket]
                ahead = [deadline for _, deadline in self._open.values() if deadline]
                if not late and not ahead:
                    self._watched = False
                    return
                if not late:
                    self._changed.wait(min(ahead) - now)
            if late:
                self._outbox.put([(ticket, timed_out()) for ticket in late])


def timed_out() -> RemoteTimeout:
    """Say that a read has used up its time."""
    return RemoteTimeout("the read took longer than its time limit", hint="Try again, or check the network")


class Outbox:
    """Hands answers on, in batches: what comes while ``deliver`` runs goes with its next call."""

    def __init__(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self._lock = threading.Lock()
        self._answers: Answers = []
        self._busy = False
        self._closed = False

    def put(self, answers: Answers) -> None:
        """Deliver answers, now or by the thread that is delivering."""
        with self._lock:
            self._answers += answers
            if self._busy:
                return
            self._busy = True
        while True:
            with self._lock:
                batch, self._answers = self._answers, []
                if not batch or self._closed:
                    self._busy = False
                    return
            self._deliver(batch)

    def close(self) -> None:
        """Deliver nothing more."""
        with self._lock:
            self._closed = True
