"""Group commit: changes of many threads in one transaction.

Owns: the writer thread, which changes share a transaction, and who learns of a failure. Must not know: what a change
does.

A transaction ends in an fsync, which costs a disk milliseconds however little was written. So one thread per open
cache takes all changes that wait and makes them together; those that come meanwhile wait for its next turn. (A thread
of our own rather than the first caller's: a signal's exception never ends up in the middle of a transaction there.)
The thread starts when it is first needed; it is a daemon, for a change that is killed in the middle does no harm.
Between two transactions, and while nothing waits, it does the cache's upkeep, a small step at a time. At the end of
each transaction, ``settle`` may drop blobs to make room for what was put.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import lmdb

from fusepkg_cache._translate import hanging
from fusepkg_cache.errors import CacheClosed, CacheError, CacheUnusable

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusepkg_cache.changes import Changes
    from fusepkg_cache.environment import Environment

log = logging.getLogger(__name__)

BATCH_BYTES = 16 * 1024 * 1024
"""Bytes after which a transaction takes no more changes: bounds the memory of dirty pages and others' wait."""

BATCH_CHANGES = 1024
"""Changes after which a transaction takes no more, however small they are."""

PATIENCE_S = 15.0
"""How long a caller waits while no transaction ends. A disk needs less for the largest; but a process that was stopped
(Ctrl-Z) in the middle of one keeps LMDB's lock until it goes on."""

_T = TypeVar("_T")


@dataclass(slots=True, eq=False)
class _Waiting(Generic[_T]):
    make: Callable[[Changes], _T]
    weight_bytes: int
    made: Future[_T] = field(default_factory=Future)


class Commits:
    """The writer of one environment."""

    def __init__(
        self,
        environment: Environment,
        upkeep: Callable[[], bool] = lambda: False,
        settle: Callable[[Changes], None] = lambda changes: None,
    ) -> None:
        self._environment = environment
        self._upkeep = upkeep
        self._settle = settle
        self._queue: deque[_Waiting[Any]] = deque()
        self._changed = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._wake_s: float | None = None
        self._upkeep_failed = False
        self._closed = False
        self._turns = 0

    def change(self, make: Callable[[Changes], _T], weight_bytes: int = 0) -> _T:
        """Make a change, and wait until all processes see it. ``make`` may run twice: its first run is then undone.

        Raises: CacheClosed, lmdb.Error, what ``make`` raises; CacheUnusable where no transaction ends for
        ``PATIENCE_S``. Then the change may still be made, later.
        """
        waiting = self._queued(make, weight_bytes)
        turns = -1
        while turns != self._turns:
            turns = self._turns
            with suppress(TimeoutError):
                return waiting.made.result(PATIENCE_S)
            if waiting.made.done():  # the error is the disk's
                return waiting.made.result()
        with self._changed, suppress(ValueError):  # else it is part of what hangs
            self._queue.remove(waiting)
        raise hanging(PATIENCE_S)

    def wait_turn(self) -> None:
        """Wait for the transactions under way, of other processes too. Raises as ``change`` does."""
        self.change(lambda _: None)

    def submit(self, make: Callable[[Changes], _T], weight_bytes: int = 0) -> Future[_T]:
        """Have a change made, and do not wait for it. Raises CacheClosed."""
        return self._queued(make, weight_bytes).made

    def wake(self, after_s: float) -> None:
        """Have the upkeep looked after then, at the latest, even if nothing changes."""
        with self._changed:
            when = time.monotonic() + after_s
            if not self._closed and (self._wake_s is None or when < self._wake_s):
                self._wake_s = when
                self._start()

    def close(self, patience_s: float | None = None) -> bool:
        """Make the changes that wait, then end the thread; False where one hangs: it ends once that is made."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(patience_s)
        return self._thread is None or not self._thread.is_alive()

    def _queued(self, make: Callable[[Changes], _T], weight_bytes: int) -> _Waiting[_T]:
        waiting = _Waiting(make, weight_bytes)
        with self._changed:
            if self._closed:
                raise CacheClosed("the cache was closed")
            self._queue.append(waiting)
            self._start()
        return waiting

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="fusepkg-cache-writer", daemon=True)
            self._thread.start()
        self._changed.notify()

    def _write(self) -> None:
        more = False
        while (batch := self._next_batch(wait=not more)) is not None:
            if batch:
                self._make(batch)
                self._turns += 1
            more = self._keep_up()

    def _keep_up(self) -> bool:
        try:
            more = self._upkeep()
            self._upkeep_failed = False
            return more
        except (OSError, lmdb.Error, CacheError) as exc:
            level = logging.DEBUG if self._upkeep_failed else logging.WARNING
            self._upkeep_failed = True
            log.log(level, "the cache cannot be kept within its bound: %s", exc)
            return False

    def _next_batch(self, *, wait: bool) -> list[_Waiting[Any]] | None:
        """The changes of the next transaction, if wanted once there are any; None when closed and all done.

        None of them may be there, when it is time for upkeep.
        """
        with self._changed:
            while wait and not self._queue and not self._closed:
                left_s = None if self._wake_s is None else self._wake_s - time.monotonic()
                if left_s is not None and left_s <= 0:
                    self._wake_s = None
                    break
                self._changed.wait(left_s)
            if self._closed and not self._queue:
                return None
            batch: list[_Waiting[Any]] = []
            weight = 0
            while self._queue and weight < BATCH_BYTES and len(batch) < BATCH_CHANGES:
                batch.append(self._queue.popleft())
                weight += batch[-1].weight_bytes
            return batch

    def _make_all(self, batch: list[_Waiting[Any]], changes: Changes) -> list[Any]:
        made = [waiting.make(changes) for waiting in batch]
        self._settle(changes)
        return made

    def _make(self, batch: list[_Waiting[Any]]) -> None:
        try:
            results = self._environment.change(lambda changes: self._make_all(batch, changes))
        except Exception as exc:  # noqa: BLE001  # whatever it is, those who wait must learn of it
            if len(batch) == 1 or isinstance(exc, CacheUnusable):
                for waiting in batch:
                    waiting.made.set_exception(exc)
                return
            for waiting in batch:  # one of them is to blame, or is too large for the disk: the others must not suffer
                self._make([waiting])
        else:
            for waiting, result in zip(batch, results, strict=True):
                waiting.made.set_result(result)
