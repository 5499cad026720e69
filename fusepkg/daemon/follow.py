"""Following a tag: ask now and then what it names, and switch to that."""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING, Any

import trio

from fusepkg.errors import FusepkgError

if TYPE_CHECKING:
    from fusepkg.daemon.switching import Switcher

log = logging.getLogger(__name__)

_JITTER = 0.25
"""Of the interval, in both directions: many mounts that were made at once do not ask at once."""


class Follower:
    """Follows one tag at a time, or none."""

    def __init__(self, switcher: Switcher, interval_s: float, tag: str | None = None) -> None:
        self.tag = tag
        self._switcher = switcher
        self._interval_s = interval_s
        self._changed = trio.Event()
        self._asked_s: float | None = None
        self._failing_since_s: float | None = None
        self._failure = ""

    def follow(self, tag: str | None) -> None:
        """Follow a tag from now on, or none."""
        self.tag = tag
        self._asked_s = self._failing_since_s = None
        self._failure = ""
        self._changed.set()
        self._changed = trio.Event()

    def facts(self) -> dict[str, Any] | None:
        """Return what `status` tells; times are Unix seconds. None while no tag is followed."""
        if self.tag is None:
            return None
        return {
            "tag": self.tag,
            "interval_s": self._interval_s,
            "asked_s": self._asked_s,
            "failing_since_s": self._failing_since_s,
            "failure": self._failure,
        }

    async def run(self) -> None:
        """Ask, switch and wait until cancelled."""
        while True:
            changed = self._changed
            with trio.move_on_after(self._interval_s * random.uniform(1 - _JITTER, 1 + _JITTER)):
                await changed.wait()
            if self.tag is not None and not changed.is_set():
                await self._ask(self.tag)

    async def _ask(self, tag: str) -> None:
        try:
            await self._switcher.follow(tag, lambda: self.tag == tag)
        except Exception as exc:  # noqa: BLE001 - whatever it is, it must not end the mount
            self._note_failure(tag, exc)
            return
        finally:
            self._asked_s = time.time()
        if self._failing_since_s is not None:
            log.warning("the tag %s is followed again", tag)
        self._failing_since_s, self._failure = None, ""

    def _note_failure(self, tag: str, error: Exception) -> None:
        if self._failing_since_s is None:  # once per incident
            is_bug = not isinstance(error, FusepkgError)
            log.warning("the tag %s cannot be followed just now: %s", tag, error, exc_info=error if is_bug else None)
        self._failing_since_s = self._failing_since_s or time.time()
        self._failure = str(error)
