"""The prefetches of a mount: started with it or over its control socket, watched, stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusepkg.errors import ControlError
from fusepkg.fetch.prefetch import numbers_below

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    import trio

    from fusepkg.daemon.control import Question
    from fusepkg.fetch.packs import VersionPacks
    from fusepkg.fetch.prefetch import Prefetch, PrefetchProgress

ALL = "all"
"""Stands for the whole package among the paths of a mount's command line."""

MOST_AT_A_TIME = 16
"""Prefetches of one mount that run at a time."""


class Prefetching:
    """Numbers the prefetches of one mount from 1. ``make`` makes one of entry numbers and a rate."""

    def __init__(
        self,
        version: VersionPacks,
        make: Callable[[VersionPacks, Sequence[range], int | None], Prefetch],
        nursery: trio.Nursery,
    ) -> None:
        self.version = version
        self._make = make
        self._nursery = nursery
        self._progress: dict[int, PrefetchProgress] = {}
        self._running: dict[int, Prefetch] = {}

    def exchange(self, version: VersionPacks) -> None:
        """Prefetch of another version from now on; what runs is stopped."""
        self.version = version
        for prefetch in self._running.values():
            prefetch.stop()

    def start(self, paths: Sequence[str], rate: int | None) -> int:
        """Start to fetch what lies at or below these paths, or all without any. Raises EntryNotFound, ControlError."""
        if len(self.running) >= MOST_AT_A_TIME:
            raise ControlError(f"{MOST_AT_A_TIME} prefetches run already", hint="Wait until one has ended")
        entries = self.version.entries
        numbers = [numbers_below(entries, path) for path in paths or ("",)]
        return self.begin(self._make(self.version, _without_overlaps(numbers), rate))

    def begin(self, prefetch: Prefetch) -> int:
        """Run a prefetch of ``version``; return its number."""
        number = len(self._progress) + 1
        self._running[number] = prefetch
        self._progress[number] = prefetch.progress
        self._nursery.start_soon(self._run, number, prefetch)
        return number

    async def _run(self, number: int, prefetch: Prefetch) -> None:
        await prefetch.run()
        del self._running[number]  # its version may be an old one by now

    @property
    def running(self) -> list[Prefetch]:
        """Those that have not ended."""
        return [prefetch for prefetch in self._running.values() if not prefetch.progress.is_done]

    def answer(self, question: Question) -> dict[str, Any]:
        """Answer ``prefetch``, ``prefetch_progress`` and ``prefetch_stop``. Raises EntryNotFound, ControlError."""
        number = question.number
        if question.what == "prefetch":
            number = self.start(question.paths, question.rate or None)
        progress = self._progress.get(number)
        if progress is None:
            raise ControlError(f"this mount has no prefetch {number}")
        if question.what == "prefetch_stop" and number in self._running:
            self._running[number].stop()
        return {"number": number, **progress.as_dict()}

    def facts(self) -> list[dict[str, object]]:
        """What the running ones have done."""
        return [prefetch.progress.as_dict() for prefetch in self.running]


def _without_overlaps(numbers: list[range]) -> list[range]:
    """Return the same numbers, each once and in order."""
    merged: list[range] = []
    for part in sorted(numbers, key=lambda part: part.start):
        if merged and part.start < merged[-1].stop:
            merged[-1] = range(merged[-1].start, max(merged[-1].stop, part.stop))
        else:
            merged.append(part)
    return merged
