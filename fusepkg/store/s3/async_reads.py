"""Asynchronous reads of S3, on the process's loop."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from fusepkg.errors import FusepkgError, RemoteError
from fusepkg.store.s3.http.loop import in_thread, running_loop
from fusepkg.store.threaded_reads import timed_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fusepkg.store.protocol import Answers, Deliver, Wanted
    from fusepkg.store.s3.bucket import Bucket


class S3Reads:
    """See AsyncReads. ``open_bucket`` may take a while, and is called in a thread, until it has once succeeded."""

    def __init__(self, open_bucket: Callable[[], Bucket], deliver: Deliver) -> None:
        self._open_bucket = open_bucket
        self._deliver = deliver
        self._loop = running_loop()
        self._lock = threading.Lock()
        self._arrived: list[tuple[Sequence[Wanted], float | None]] = []
        self._closed = False
        # From here on for the loop's thread only.
        self._bucket: Bucket | None = None
        self._opening: asyncio.Future[Bucket] | None = None
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
        answer: bytes | FusepkgError
        try:
            bucket = self._bucket or await self._opened()
            answer = await bucket.get_async(one.key, one.version, one.offset, one.length)
        except FusepkgError as exc:
            answer = exc
        except Exception as exc:  # noqa: BLE001 - every read is answered
            answer = RemoteError(f"{one.key} cannot be read: {exc!r}", hint="Please report this")
        self._answer(one, answer)

    async def _opened(self) -> Bucket:
        """Open the bucket, once for all reads that wait for it; after a failure the next read tries again."""
        if self._opening is None:
            self._opening = self._loop.create_task(in_thread(self._open_bucket))
            self._opening.add_done_callback(self._end_opening)
        return await asyncio.shield(self._opening)

    def _end_opening(self, opening: asyncio.Future[Bucket]) -> None:
        self._opening = None
        if not opening.cancelled() and opening.exception() is None:
            self._bucket = opening.result()

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
        for ticket in tickets:
            if found := self._open.pop(ticket, None):
                found[1].cancel()

    def _end_late(self, wanted: Sequence[Wanted]) -> None:
        for one in wanted:
            found = self._open.get(one.ticket)
            if found is not None and found[0] is one:
                self._answer(one, timed_out())
                found[1].cancel()
