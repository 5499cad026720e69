"""Run one function over many items in threads; Ctrl-C ends it at once."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_WINDOW_PER_THREAD = 4
"""Items submitted ahead of each thread: keeps threads busy without a million futures in memory."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class StopFlag:
    """A flag that ends work in threads; long work checks it between its pieces."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Set the flag."""
        self._event.set()

    def check(self) -> None:
        """Raise CancelledError if the flag is set."""
        if self._event.is_set():
            raise CancelledError


def run_threads(
    work: Callable[[_Item], _Result],
    items: Iterable[_Item],
    collect: Callable[[_Result], None],
    *,
    threads: int,
    name: str,
    stop: StopFlag,
) -> None:
    """Call ``work`` with each item in a thread, and ``collect`` with each result in the calling thread, as they come.

    The first error sets ``stop``, waits for running calls, and is raised. A KeyboardInterrupt does not wait: threads
    end at their next check of the flag.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    ready: SimpleQueue[Future[_Result]] = SimpleQueue()
    waiting = iter(items)
    running = 0
    exhausted = False
    try:
        while True:
            while not exhausted and running < threads * _WINDOW_PER_THREAD:
                for item in waiting:
                    pool.submit(work, item).add_done_callback(ready.put)
                    running += 1
                    break
                else:
                    exhausted = True
            if not running:
                break
            result = ready.get().result()
            running -= 1
            collect(result)
    except Exception:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    except BaseException:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown(wait=True)
