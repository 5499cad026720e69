"""Read entries from ordinary threads: the asynchronous reader runs in a thread of its own.

A forked child has none of its parent's threads and must not touch its parent's clients, so the first call in a child
opens new ones; inherited ones are neither used nor closed.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from fusepkg.errors import FusepkgError, RemoteUnavailable
from fusepkg.fetch.joined import join_ranges, split_joined

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from fusepkg.fetch.joined import Joined
    from fusepkg.fetch.reader import EntryReader
    from fusepkg.model.entry import Entry

_T = TypeVar("_T")

_END_TIMEOUT_S = 10.0
"""How long ``close`` waits for the loop: it only drops its tasks."""


_KEEP_TIMEOUT_S = 5.0
"""How long ``close`` waits for the cache to take what has arrived: milliseconds, but on a disk that hangs."""

_SIDE_BY_SIDE = 1024
"""Ranges of one call that are waited for at a time: more than the pipeline fetches at once."""


class BlockingReader:
    """Bytes of entries, cached and verified. Safe for many threads, under any other event loop, and across forks.

    ``make_reader`` is called on the loop's thread, once in each process that reads.
    """

    def __init__(self, make_reader: Callable[[trio.Nursery], EntryReader]) -> None:
        self._make_reader = make_reader
        self._lock = threading.Lock()
        self._loop: _Loop | None = None
        self._pid = os.getpid()

    def read(self, entry: Entry, offset: int = 0, length: int | None = None) -> bytes:
        """``length`` bytes of an entry from ``offset`` (all that follow, unless given); fewer at its end.

        Raises: RemoteError, DigestMismatch, CacheFailure.
        """
        wanted = entry.size - offset if length is None else length
        return self._call(lambda reader: reader.read(entry, offset, max(0, wanted)))

    def read_many(self, wanted: Sequence[tuple[Entry, int, int]]) -> list[bytes | FusepkgError]:
        """The bytes of many ranges (entry, offset, length), fetched side by side, those near each other together.

        An error takes the place of the bytes it kept away.
        """
        found: list[bytes | FusepkgError] = [b""] * len(wanted)
        ranges = join_ranges(wanted)
        for start in range(0, len(ranges), _SIDE_BY_SIDE):
            some = ranges[start : start + _SIDE_BY_SIDE]
            read = self._call(partial(_read_side_by_side, some))
            for joined, data in zip(some, read, strict=True):
                for number, part in split_joined(joined, wanted, data).items():
                    found[number] = part
        return found

    def cached_chunks(self, entry: Entry) -> tuple[int, int]:
        """How many of the entry's chunks the cache holds, and how many there are."""

        async def ask(reader: EntryReader) -> tuple[int, int]:
            await trio.lowlevel.checkpoint()
            return reader.cached_chunks(entry)

        return self._call(ask)

    def missing(self, entries: Sequence[Entry]) -> list[Entry]:
        """Return those of which the cache does not hold all."""

        async def ask(reader: EntryReader) -> list[Entry]:
            await trio.lowlevel.checkpoint()
            return [entry for entry in entries if len(set(reader.cached_chunks(entry))) > 1]

        return self._call(ask)

    def fetched_bytes(self) -> int:
        """Return how many bytes of data came from the bucket so far."""

        async def ask(reader: EntryReader) -> int:
            await trio.lowlevel.checkpoint()
            return reader.counters.fetched_bytes

        return self._call(ask)

    def close(self) -> None:
        """End the loop, and its fetches; the next call would start another. Does nothing in a forked child."""
        if self._pid != os.getpid():
            return
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.end()

    def _call(self, what: Callable[[EntryReader], Awaitable[_T]]) -> _T:
        return self._running().call(what)

    def _running(self) -> _Loop:
        if self._pid != os.getpid():
            # The inherited lock may be held for ever by a thread that did not survive the fork.
            self._lock, self._loop, self._pid = threading.Lock(), None, os.getpid()
        with self._lock:
            if self._loop is None:
                self._loop = _Loop(self._make_reader)
            return self._loop


async def _read_side_by_side(ranges: Sequence[Joined], reader: EntryReader) -> list[bytes | FusepkgError]:
    found: list[bytes | FusepkgError] = [b""] * len(ranges)

    async def read(number: int, one: Joined) -> None:
        try:
            found[number] = await reader.read(one.entry, one.offset, one.end - one.offset)
        except FusepkgError as exc:
            found[number] = exc

    async with trio.open_nursery() as nursery:
        for number, one in enumerate(ranges):
            nursery.start_soon(read, number, one)
    return found


class _Loop:
    """A trio loop in a daemon thread, with one reader in it."""

    def __init__(self, make_reader: Callable[[trio.Nursery], EntryReader]) -> None:
        self._started: Future[tuple[trio.lowlevel.TrioToken, trio.Nursery, EntryReader]] = Future()
        self._thread = threading.Thread(
            target=trio.run, args=(self._main, make_reader), name="fusepkg-fetch", daemon=True
        )
        self._thread.start()
        self._token, self._nursery, self._reader = self._started.result()

    def call(self, what: Callable[[EntryReader], Awaitable[_T]]) -> _T:
        """Run ``what`` on the loop and return its result. Raises RemoteUnavailable if the loop has ended, or ends."""
        future: Future[_T] = Future()
        try:
            self._token.run_sync_soon(self._start, what, future)
        except trio.RunFinishedError:
            raise _closed() from None
        return future.result()

    def end(self) -> None:
        """Keep what has arrived, cancel what is under way, and wait for the thread."""
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._start_end)
        self._thread.join(_END_TIMEOUT_S)

    async def _main(self, make_reader: Callable[[trio.Nursery], EntryReader]) -> None:
        reader: EntryReader | None = None
        try:
            async with trio.open_nursery() as nursery:
                try:
                    reader = make_reader(nursery)
                except Exception as exc:  # noqa: BLE001 - raised to the thread that starts the loop
                    self._started.set_exception(exc)
                    return
                self._started.set_result((trio.lowlevel.current_trio_token(), nursery, reader))
                await trio.sleep_forever()
        finally:
            if reader is not None:
                reader.close()

    def _start(self, what: Callable[[EntryReader], Awaitable[_T]], future: Future[_T]) -> None:
        try:
            self._nursery.start_soon(self._answer, what, future)
        except RuntimeError:  # the nursery has ended
            future.set_exception(_closed())

    async def _answer(self, what: Callable[[EntryReader], Awaitable[_T]], future: Future[_T]) -> None:
        try:
            future.set_result(await what(self._reader))
        except Exception as exc:  # noqa: BLE001 - raised to the caller
            future.set_exception(exc)
        except BaseException:  # cancelled: the loop ends
            future.set_exception(_closed())
            raise

    def _start_end(self) -> None:
        with suppress(RuntimeError):  # the nursery has ended
            self._nursery.start_soon(self._keep_and_end)

    async def _keep_and_end(self) -> None:
        with trio.move_on_after(_KEEP_TIMEOUT_S):
            await self._reader.wait_until_kept()
        self._nursery.cancel_scope.cancel()


def _closed() -> RemoteUnavailable:
    return RemoteUnavailable("the package was closed while it was read from")
