"""Asking the cache's lower tier, which may lie on a network's file system and hang.

Owns: the threads that wait for it, and when it is left alone for a while. Must not know: what it is asked.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""How long the lower tier may be silent before the bucket is asked instead: a healthy NFS server answers in
milliseconds."""

LEAVE_ALONE_S = 30.0
"""How long nobody asks it after that."""

THREADS = 36
"""As many as there are flights. Those that hang keep theirs, so a tier that hangs for good costs no more than this."""

_T = TypeVar("_T")


class _Abandoned(Exception):
    """Ends a thread that nobody waits for any longer."""


class Below:
    """The lower tier as the fetch path asks it."""

    def __init__(self) -> None:
        self._threads = trio.CapacityLimiter(THREADS)
        self._again_s = 0.0
        self._warned = False

    async def ask(self, question: Callable[[Callable[[], None]], _T | None]) -> _T | None:
        """The answer to a question, asked in a thread; None where there is none in time.

        ``question`` gets a function to call whenever it has got on a little, which gives it more time.
        """
        if trio.current_time() < self._again_s:
            return None
        token = trio.lowlevel.current_trio_token()
        scope = trio.CancelScope(deadline=trio.current_time() + PATIENCE_S)
        is_awaited = True

        def got_on() -> None:
            if not is_awaited:
                raise _Abandoned
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(_extend, scope)

        def answer() -> _T | None:
            with suppress(_Abandoned):
                return question(got_on)
            return None

        try:
            with scope:
                return await trio.to_thread.run_sync(answer, abandon_on_cancel=True, limiter=self._threads)
        finally:
            is_awaited = False
        self._again_s = trio.current_time() + LEAVE_ALONE_S
        log.log(
            logging.DEBUG if self._warned else logging.WARNING,
            "the lower cache does not answer; the bucket is asked instead",
        )
        self._warned = True
        return None


def _extend(scope: trio.CancelScope) -> None:
    scope.deadline = trio.current_time() + PATIENCE_S
