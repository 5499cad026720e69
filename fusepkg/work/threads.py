"""Running one function over many items in threads, so that an interrupt ends it promptly.

Owns: the window of work in flight and the stop flag. Must not know: what the work is.
"""

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
    """Set when work in threads is no longer wanted; long work asks between its pieces."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask all work to end."""
        self._event.set()

    def check(self) -> None:
        """Raise CancelledError if the work is no longer wanted."""
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
    """Do the work of each item in a thread, and hand results to ``collect``, in the calling thread, as they come.

    The first failure, of whichever part, sets ``stop``, waits for what is running, and is raised. A KeyboardInterrupt
    waits for nothing: the threads end at their next look at the flag.
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
