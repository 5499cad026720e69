"""Asynchronous reads of S3: obstore's requests on one asyncio loop of the process, in a thread of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING

from fusepkg.errors import FusepkgError, RemoteError
from fusepkg.store.threaded_reads import ThreadedReads, timed_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fusepkg.store.protocol import Answers, Deliver, Wanted
    from fusepkg.store.s3.bucket import Bucket
    from fusepkg.store.threaded_reads import Get


class S3Reads:
    """See AsyncReads. What obstore cannot read, or fails to without saying why, is read by ``get`` in a thread.

    ``open_bucket`` is called on the loop, so that what submits reads does not wait for client libraries.
    """

    def __init__(self, open_bucket: Callable[[], Bucket], get: Get, deliver: Deliver) -> None:
        self._open_bucket = open_bucket
        self._deliver = deliver
        self._blocking = ThreadedReads(get, self._take_from_threads)
        self._loop = _running_loop()
        self._lock = threading.Lock()
        self._arrived: list[tuple[Sequence[Wanted], float | None]] = []
        self._closed = False
        # From here on for the loop's thread only.
        self._open: dict[int, tuple[Wanted, asyncio.Task[None]]] = {}
        self._answers: Answers = []

    def submit(self, wanted: Sequence[Wanted], *, timeout_s: float | None = None) -> None:
        """See AsyncReads."""
        with self._lock:
            self._arrived.append((wanted, timeout_s))
            if len(self._arrived) > 1:
                return
        self._loop.call_soon_threadsafe(self._start)

    def cancel(self, tickets: Iterable[int]) -> None:
        """See AsyncReads."""
        self._loop.call_soon_threadsafe(self._give_up, list(tickets))

    def close(self) -> None:
        """See AsyncReads."""
        self._closed = True
        self._blocking.close()
        self._loop.call_soon_threadsafe(lambda: self._give_up(list(self._open)))

    # --- on the loop -----------------------------------------------------------------------------------------

    def _start(self) -> None:
        with self._lock:
            arrived, self._arrived = self._arrived, []
        if self._closed:
            return
        for wanted, timeout_s in arrived:
            for one in wanted:
                self._open[one.ticket] = one, self._loop.create_task(self._read(one))
            if timeout_s is not None:
                self._loop.call_later(timeout_s, self._end_late, wanted)

    async def _read(self, one: Wanted) -> None:
        answer: bytes | FusepkgError | None
        try:
            bucket = self._open_bucket()
            answer = await bucket.get_async(one.key, one.version, one.offset, one.length)
        except FusepkgError as exc:
            answer = exc
        except Exception as exc:  # noqa: BLE001 - every read is answered
            answer = RemoteError(f"{one.key} cannot be read: {exc!r}", hint="Please report this")
        if answer is None:
            self._blocking.submit([one])
        else:
            self._answer(one, answer)

    def _answer(self, one: Wanted, answer: bytes | FusepkgError) -> None:
        found = self._open.get(one.ticket)
        if found is None or found[0] is not one:  # given up; the ticket may be another's by now
            return
        del self._open[one.ticket]
        self._answers.append((one.ticket, answer))
        if len(self._answers) == 1:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        answers, self._answers = self._answers, []
        if not self._closed:
            self._deliver(answers)

    def _give_up(self, tickets: Iterable[int]) -> None:
        tickets = list(tickets)
        for ticket in tickets:
            if found := self._open.pop(ticket, None):
                found[1].cancel()
        self._blocking.cancel(tickets)

    def _end_late(self, wanted: Sequence[Wanted]) -> None:
        for one in wanted:
            found = self._open.get(one.ticket)
            if found is not None and found[0] is one:
                self._answer(one, timed_out())
                found[1].cancel()
                self._blocking.cancel([one.ticket])

    def _take_from_threads(self, answers: Answers) -> None:
        self._loop.call_soon_threadsafe(self._take, answers)

    def _take(self, answers: Answers) -> None:
        for ticket, answer in answers:
            if found := self._open.get(ticket):
                self._answer(found[0], answer)


_lock = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}
"""The loop of each process, by its id: a forked child has its parent's entry, whose thread it has not."""


def _running_loop() -> asyncio.AbstractEventLoop:
    """Return this process's loop, started at the first call."""
    with _lock:
        if os.getpid() not in _loops:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="fusepkg-reads", daemon=True).start()
            _loops[os.getpid()] = loop
        return _loops[os.getpid()]
