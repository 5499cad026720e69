"""Asking the lower cache, whose file system may be another machine's and hang."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import trio
from fusepkg_cache.digest import verified

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusepkg_cache import LowerCache, Verified
    from fusepkg_cache.digest import Digest

    from fusepkg.fetch.piece import Piece

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0
"""How long the lower cache may be silent before the bucket is asked instead: a healthy NFS server answers in
milliseconds."""

RETRY_S = 30.0
"""After a timeout, ask only the bucket for this long."""

THREADS = 36
"""Questions at a time. Those that hang keep their threads, so a lower cache that hangs for good costs no more."""

_T = TypeVar("_T")


class _Abandoned(Exception):
    """Ends a thread whose caller has timed out."""


class LowerCacheThreads:
    """The lower cache as the pipeline asks it."""

    def __init__(self) -> None:
        self._threads = trio.CapacityLimiter(THREADS)
        self._again_s = 0.0
        self._warned = False

    @property
    def is_silent(self) -> bool:
        """Whether it did not answer a short while ago."""
        return trio.current_time() < self._again_s

    async def find(self, lower: LowerCache, pieces: list[Piece]) -> dict[Digest, Verified]:
        """Return the pieces that it has, as far as it answers."""
        found: dict[Digest, Verified] = {}

        def look(progress: Callable[[], None]) -> bool:
            for piece in pieces:
                data = lower.read(piece.name, size=piece.length)
                if data is not None:
                    found[piece.name] = verified(piece.name, data)
                progress()
            return True

        await self.ask(look)
        return found

    async def ask(self, question: Callable[[Callable[[], None]], _T | None]) -> _T | None:
        """Run ``question`` in a thread and return its answer; None after ``TIMEOUT_S`` without progress.

        ``question`` gets a function to call with each bit of progress.
        """
        if self.is_silent:
            return None
        token = trio.lowlevel.current_trio_token()
        scope = trio.CancelScope(deadline=trio.current_time() + TIMEOUT_S)
        is_awaited = True

        def progress() -> None:
            if not is_awaited:
                raise _Abandoned
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(_extend, scope)

        def answer() -> _T | None:
            with suppress(_Abandoned):
                return question(progress)
            return None

        try:
            with scope:
                return await trio.to_thread.run_sync(answer, abandon_on_cancel=True, limiter=self._threads)
        finally:
            is_awaited = False
        self._again_s = trio.current_time() + RETRY_S
        log.log(
            logging.DEBUG if self._warned else logging.WARNING,
            "the lower cache does not answer; the bucket is asked instead",
        )
        self._warned = True
        return None


def _extend(scope: trio.CancelScope) -> None:
    scope.deadline = trio.current_time() + TIMEOUT_S
