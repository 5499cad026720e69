"""A thread that does the cache's upkeep, a small step at a time, while there is something to do."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from fusepkg_cache.errors import CacheClosed, CacheError

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)


class Upkeep:
    """Calls ``step`` until it returns False, whenever it is woken. The thread starts when it is first needed.

    It is a daemon: a step that is killed in the middle does no harm.
    """

    def __init__(self, step: Callable[[], bool]) -> None:
        self._step = step
        self._changed = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._wake_s: float | None = None
        self._failed = False
        self._closed = False

    def wake(self, after_s: float = 0.0) -> None:
        """Call ``step`` after this many seconds, at the latest."""
        when = time.monotonic() + after_s
        with self._changed:
            if self._closed or (self._wake_s is not None and self._wake_s <= when):
                return
            self._wake_s = when
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="fusepkg-cache-upkeep", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self, patience_s: float) -> None:
        """End the thread after the step it is in, or leave it to end later if that takes longer."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(patience_s)

    def _work(self) -> None:
        while self._wait():
            while not self._closed and self._tried():
                pass

    def _wait(self) -> bool:
        with self._changed:
            while not self._closed:
                left_s = None if self._wake_s is None else self._wake_s - time.monotonic()
                if left_s is not None and left_s <= 0:
                    self._wake_s = None
                    return True
                self._changed.wait(left_s)
            return False

    def _tried(self) -> bool:
        try:
            more = self._step()
            self._failed = False
            return more
        except (OSError, CacheError) as exc:
            if isinstance(exc, CacheClosed):
                return False
            level = logging.DEBUG if self._failed else logging.WARNING
            self._failed = True
            log.log(level, "the cache cannot be kept within its bound: %s", exc)
            return False
