"""Record recent reads, so that the blobs unused for longest are evicted, and ``info`` knows hits and misses.

A read is noted in memory only; the notes of many are written in one change, and a use only if the last one written is
``RESOLUTION_S`` ago. What is lost with a killed process is a little of the order of eviction, and a minute's counts.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fusepkg_cache.records import Counts

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from fusepkg_cache.index import BlobIndex
    from fusepkg_cache.index_change import IndexChange

NOTES = 8192
"""Blobs noted before the notes are written: under a MiB of memory, and tens of milliseconds of a change."""

WRITE_AFTER_S = 60.0
"""How long the first of the notes waits: other processes evict by what was written, and a read an hour is a use."""

RESOLUTION_S = 600
"""Uses closer together than this are one: a blob read all day costs 144 small writes, an epoch of training one each."""


class Recency:
    """The notes of one process. Adding to an attribute or a dict is atomic; a note lost in a race costs nothing.

    ``wake`` is called with the seconds after which the notes are to be written.
    """

    def __init__(self, index: BlobIndex, wake: Callable[[float], None]) -> None:
        self._index = index
        self._wake = wake
        self._noted: dict[bytes, None] = {}
        self._write_at = 1  # notes at which something is to be done: the first wakes the upkeep, for later
        self._due_s = 0.0
        self._small_hits = 0
        self._large_hits = 0
        self._lower_hits = 0
        self._misses = 0

    def note_small(self, key: bytes) -> None:
        """Note that a small blob was read. Never waits."""
        self._small_hits += 1
        self._noted[key] = None
        if len(self._noted) >= self._write_at:
            self._arrange()

    def note_large(self, key: bytes) -> None:
        """Note that a large blob was read. Never waits."""
        self._large_hits += 1
        self._noted[key] = None
        if len(self._noted) >= self._write_at:
            self._arrange()

    def note_lower(self) -> None:
        """Note that the lower cache had what was missed. Never waits."""
        self._lower_hits += 1

    def note_misses(self, number: int = 1) -> None:
        """Note that blobs were not found. Never waits."""
        self._misses += number
        if self._write_at == 1:
            self._arrange()

    @property
    def noted(self) -> Container[bytes]:
        """The blobs that were read since notes were written."""
        return self._noted

    @property
    def counts(self) -> Counts:
        """What is counted and not written yet."""
        return Counts(
            small_hits=self._small_hits,
            large_hits=self._large_hits,
            lower_hits=self._lower_hits,
            misses=self._misses,
        )

    @property
    def due(self) -> bool:
        """Whether notes have waited for long enough."""
        return self._write_at > 1 and time.monotonic() >= self._due_s

    def write(self, patience_s: float | None = None) -> None:
        """Write the notes there are. Raises CacheUnusable, OSError: then they are forgotten, rather than piled up."""
        noted, self._noted, self._write_at = self._noted, {}, 1
        counts = self.counts
        if not noted and counts == Counts():
            return

        def make(change: IndexChange) -> None:
            change.use(noted, RESOLUTION_S)
            change.count(counts)

        self._index.change(make, patience_s)
        self._small_hits -= counts.small_hits
        self._large_hits -= counts.large_hits
        self._lower_hits -= counts.lower_hits
        self._misses -= counts.misses

    def _arrange(self) -> None:
        if self._write_at == 1:
            self._write_at = NOTES
            self._due_s = time.monotonic() + WRITE_AFTER_S
            self._wake(WRITE_AFTER_S)
        elif len(self._noted) >= 2 * NOTES:  # they could not be written for a while
            self._noted = {}
        else:
            self._due_s = 0.0
            self._wake(0)
