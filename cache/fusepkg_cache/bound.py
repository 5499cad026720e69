"""Keeping a cache below a number of bytes, and off the last free bytes of its disk.

``settle`` is part of every change that puts: past a little more than the bound, what was put makes room for itself, so
no number of processes can fill faster than blobs go. ``step`` does the rest in the background, down to a little less
than the bound.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from fusepkg_cache.compaction import tidy
from fusepkg_cache.errors import BlobTooLarge

if TYPE_CHECKING:
    from collections.abc import Generator

    from fusepkg_cache.eviction import Evictor
    from fusepkg_cache.finding import Finder
    from fusepkg_cache.index import BlobIndex
    from fusepkg_cache.index_change import IndexChange
    from fusepkg_cache.layout import CacheLayout
    from fusepkg_cache.recency import Recency
    from fusepkg_cache.segments import Segments

LOW_WATER = 0.95
"""Part of the bound that eviction goes down to, so that it does not run again with every put."""

HIGH_WATER = 1.03
"""Part of the bound at which puts make room: several processes may put a little more at the same moment."""

SETTLE_STEPS = 8
"""Samples a change that puts may drop from: some 30 ms."""

WALK_AGAIN_S = 86400
"""Until all files are looked at again: killed writers leave some that are not counted."""

WALK_LOOK_S = 600.0
"""Between two looks whether that is due: another process may be at it, and be killed before it is done."""

DEAD_PART = 8
"""Segments are tidied once the dropped blobs in them are this part of what is held."""

CLOSE_PATIENCE_S = 1.0

DISK_LOOK_BYTES = 1024 * 1024
"""Bytes put between two looks at the free space of the disk."""


class Bound:
    """Upkeep of one directory by one process: ``step`` is called in the background."""

    def __init__(
        self,
        layout: CacheLayout,
        index: BlobIndex,
        segments: Segments,
        evictor: Evictor,
        finder: Finder,
        recency: Recency,
    ) -> None:
        self._layout = layout
        self._index = index
        self._segments = segments
        self._evictor = evictor
        self._finder = finder
        self._recency = recency
        self._turn = threading.Lock()
        self._shrinking = False
        self._look_again_s = 0.0
        self._walk: Generator[None] | None = None
        self._put_bytes = 0
        self.max_bytes: int | None = None
        self.min_free_bytes: int | None = None

    def limit(self, max_bytes: int | None, min_free_bytes: int | None) -> None:
        """Keep to these from now on, unless what was asked for before is stricter."""
        if max_bytes is not None:
            self.max_bytes = max_bytes if self.max_bytes is None else min(self.max_bytes, max_bytes)
            self._segments.limit(self.max_bytes)
        if min_free_bytes is not None:
            self.min_free_bytes = max(self.min_free_bytes or 0, min_free_bytes)
            disk = os.statvfs(self._layout.root)
            self._segments.limit(disk.f_blocks * disk.f_frsize)

    def require_room(self, blob_bytes: int) -> None:
        """Raise BlobTooLarge for what would push out everything else and then itself."""
        if self.max_bytes is not None and blob_bytes > self.max_bytes:
            raise BlobTooLarge(
                f"a blob of {blob_bytes} bytes or more does not fit into a cache of {self.max_bytes}",
                hint="Give the cache a larger bound",
            )

    @property
    def walk_due(self) -> bool:
        """Whether there may be blobs that were not counted."""
        walked = self._index.header().walked
        return not walked or not 0 <= time.time() - walked < WALK_AGAIN_S

    def unpinned(self) -> None:
        """Something may be evicted now that could not be before."""
        self._evictor.wake()

    def settle(self, change: IndexChange) -> bool:
        """Let what was just put make room for itself, at the end of its change; whether ``step`` has to go on."""
        added = change.added_bytes
        if added <= 0:
            return False
        if self.max_bytes is not None:
            over = change.held_bytes - int(self.max_bytes * HIGH_WATER)
            if over > 0:
                target = change.held_bytes - min(over, 2 * added)
                with suppress(OSError):  # an eviction error must not fail the put; the next step reports it
                    self._evictor.drop(change, target, steps=SETTLE_STEPS)
        self._put_bytes += added
        if self.min_free_bytes is not None and self._put_bytes >= DISK_LOOK_BYTES:
            self._put_bytes = 0
            return True
        return self.max_bytes is not None and change.held_bytes > self.max_bytes and not self._evictor.resting

    def step(self) -> bool:
        """Do a little of what is to do; whether there is more."""
        with self._turn:
            if self._recency.due:
                self._recency.write()
            more = self._find_more()
            return self._evict_more() or self._tidy_more() or more

    def close(self) -> None:
        """Leave the files to others to look at."""
        if self._turn.acquire(timeout=CLOSE_PATIENCE_S):  # else a step hangs, and its process ends with it
            try:
                if self._walk is not None:
                    self._walk.close()
                    self._walk = None
            finally:
                self._turn.release()

    # --- inside -------------------------------------------------------------------------------------------------

    def _find_more(self) -> bool:
        if self._walk is None:
            now = time.monotonic()
            if now < self._look_again_s and self._index.header().walked:
                return False
            self._look_again_s = now + WALK_LOOK_S
            if not self.walk_due:  # a fresh index, perhaps, knows none of the files
                return False
            self._walk = self._finder.steps(self._layout.blobs)
        if next(self._walk, self) is None:
            return True
        self._walk = None
        return False

    def _tidy_more(self) -> bool:
        header = self._index.header()
        if header.dead_bytes > max(self._segments.limit_bytes, header.small_bytes // DEAD_PART):
            tidy(self._index, self._segments)
        return False

    def _evict_more(self) -> bool:
        target = self._target()
        if target is None:
            self._shrinking = False
            return False
        self._index.change(lambda change: self._evictor.drop(change, target))
        return not self._evictor.resting

    def _target(self) -> int | None:
        """The bytes that may stay; None if nothing has to go."""
        if (self.max_bytes is None and self.min_free_bytes is None) or self._evictor.resting:
            return None
        held = target = self._index.header().held_bytes
        if self.max_bytes is not None:
            self._shrinking = held > self.max_bytes * (LOW_WATER if self._shrinking else 1)
            if self._shrinking:
                target = int(self.max_bytes * LOW_WATER)
        if self.min_free_bytes is not None:
            disk = os.statvfs(self._layout.root)
            lacking = self.min_free_bytes - disk.f_bavail * disk.f_frsize
            if lacking > 0:
                target = min(target, held - lacking)
        return None if target >= held else target
