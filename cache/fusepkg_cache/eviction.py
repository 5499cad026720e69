"""Which blobs go: the least recently used ones, whole segments at a time, or all that somebody no longer wants.

The index is hashed, so a few of its pages are a random sample of the blobs. What is older than three quarters of a
sample goes: large blobs one by one; of the small ones a segment that has most of them is emptied, oldest first. Once
less than half of a segment is left, the rest is copied to the newest segment and the file is removed, so its room is
free at once. What is pinned, or was used lately, is what is copied. Choosing and dropping is one change, so of several
processes that find the cache too large, only one makes it smaller at a time. Reads are not kept out by any of it.
"""

from __future__ import annotations

import random
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from fusepkg_cache.compaction import compact, live_entries
from fusepkg_cache.index_page import SMALL
from fusepkg_cache.records import Counts, digest_of
from fusepkg_cache.segment_format import HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fusepkg_cache.files import BlobFiles
    from fusepkg_cache.index import BlobIndex
    from fusepkg_cache.index_change import IndexChange
    from fusepkg_cache.index_page import IndexEntry
    from fusepkg_cache.pins import Pins
    from fusepkg_cache.recency import Recency
    from fusepkg_cache.segments import Segments

SAMPLE = 1024
"""Blobs looked at for a choice: some 2 ms, and one in four of them is a fair guess at the oldest."""

REST_S = 10.0
"""How long nothing is tried after a full round in which all was pinned."""


class Evictor:
    """Goes round the blobs of one directory, for one process."""

    def __init__(self, segments: Segments, files: BlobFiles, pins: Pins, recency: Recency) -> None:
        self._segments = segments
        self._files = files
        self._pins = pins
        self._recency = recency
        self._place = random.getrandbits(32)
        self._victim = 0
        self._queue: deque[IndexEntry] = deque()
        self._looked_at = 0
        self._in_vain = 0
        self._rest_until_s = 0.0

    @property
    def resting(self) -> bool:
        """Whether there was nothing left to drop a moment ago."""
        return time.monotonic() < self._rest_until_s

    def wake(self) -> None:
        """Try at once, for something may be no longer pinned."""
        self._rest_until_s = 0.0

    def drop(self, change: IndexChange, target_bytes: int, *, steps: int = 1) -> list[int]:
        """Drop some blobs while more than ``target_bytes`` are held; the sizes of what was dropped."""
        sizes: list[int] = []
        for _ in range(steps):
            if change.held_bytes <= target_bytes or self.resting:
                break
            if not self._queue:
                self._choose(change, target_bytes, sizes)
            self._empty_victim(change, target_bytes, sizes)
            if self._in_vain >= change.header.pages:
                self._in_vain = 0
                self._rest_until_s = time.monotonic() + REST_S
        change.count(Counts(evictions=len(sizes), evicted_bytes=sum(sizes)))
        return sizes

    def _sample(self, change: IndexChange) -> list[IndexEntry]:
        """The entries of the next pages, until there are enough, or all were seen."""
        found: list[IndexEntry] = []
        self._looked_at = 0
        while len(found) < SAMPLE and self._looked_at < change.header.pages:
            self._place = (self._place + 1) % change.header.pages
            self._looked_at += 1
            found += change.entries_in(self._place)
        return found

    def _choose(self, change: IndexChange, target_bytes: int, sizes: list[int]) -> None:
        """Drop the large ones among the oldest of a sample; make the segment with most of the small ones the victim."""
        run = [entry for entry in self._sample(change) if change.find(entry.key) == entry]
        self._victim = 0
        free = self.unpinned(run)
        self._in_vain = 0 if free else self._in_vain + self._looked_at
        oldest = free[: -(-len(free) // 4)]
        in_segments: dict[int, int] = {}
        for entry in oldest:
            if entry.kind == SMALL:
                in_segments[entry.segment] = in_segments.get(entry.segment, 0) + entry.length + 1
            elif change.held_bytes > target_bytes:
                size = drop(change, self._segments, self._files, entry)
                if size is not None:
                    sizes.append(size)
        if not in_segments:
            return
        self._victim = max(in_segments, key=lambda number: in_segments[number])
        limit = max(entry.used for entry in oldest if entry.kind == SMALL)
        noted = self._recency.noted
        spare_noted = any(entry.key not in noted for entry in oldest)
        there = [entry for entry in live_entries(change, self._segments, self._victim) if entry.kind == SMALL]
        found = {entry.key for entry in there}  # else its record is damaged
        there += [entry for entry in oldest if entry.segment == self._victim and entry.key not in found]
        self._queue.extend(
            entry for entry in self.unpinned(there) if entry.used <= limit and not (spare_noted and entry.key in noted)
        )

    def drop_unused(self, change: IndexChange, entries: Iterable[IndexEntry]) -> list[int]:
        """Drop these if they are not pinned and were not used since; the sizes of what was dropped."""
        sizes = []
        for entry in self.unpinned(list(entries)):
            if change.find(entry.key) == entry:
                size = drop(change, self._segments, self._files, entry)
                if size is not None:
                    sizes.append(size)
        return sizes

    def unpinned(self, entries: list[IndexEntry]) -> list[IndexEntry]:
        """Those that are not pinned, least recently used first; what was read in the last minute goes last."""
        pinned, noted = self._pins.among(entry.key for entry in entries), self._recency.noted
        free = [entry for entry in entries if entry.key not in pinned]
        return sorted(free, key=lambda entry: (entry.key in noted, entry.used))

    def _empty_victim(self, change: IndexChange, target_bytes: int, sizes: list[int]) -> None:
        if not self._victim or not self._queue:
            return
        pinned = self._pins.among(entry.key for entry in self._queue)
        while self._queue and change.held_bytes > target_bytes:
            entry = self._queue.popleft()
            if change.find(entry.key) == entry and entry.key not in pinned:
                drop(change, self._segments, self._files, entry)
                sizes.append(entry.length)
        if not self._queue:
            compact(change, self._segments, self._victim, below=0.5)
            self._victim = 0


def drop(change: IndexChange, segments: Segments, files: BlobFiles, entry: IndexEntry) -> int | None:
    """Drop a blob: its file first, then its entry. Its size; None for an entry whose file was gone."""
    digest = digest_of(entry.key)
    size: int | None = entry.length
    if entry.kind != SMALL:
        size = None if digest is None else files.remove(digest)
    change.drop(entry.key)
    if entry.segment:
        change.header.dead_bytes += entry.length if entry.kind == SMALL else HEADER_BYTES
        change.afterwards(lambda: segments.mark_removed(entry))
    return size


def drop_unwanted(
    index: BlobIndex,
    evictor: Evictor,
    wanted: Callable[[IndexEntry], bool],
    *,
    dry_run: bool = False,
) -> list[int]:
    """Drop what is neither wanted nor pinned, nor used since it was looked at; the sizes of what was dropped.

    With ``dry_run`` nothing is: they are what would be.
    """
    sizes: list[int] = []
    for run in index.runs():
        unwanted = [entry for entry in run if not wanted(entry)]
        if dry_run:
            sizes += [entry.length for entry in evictor.unpinned(unwanted)]
        elif unwanted:
            sizes += index.change(partial(evictor.drop_unused, entries=unwanted))
    return sizes
