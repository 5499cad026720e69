"""What one process has open of one cache directory, shared by all cache objects of the process.

A fork needs no call: a child's cache objects open the directory for themselves at their first call,
and the copies of the parent's descriptors are closed, for a lock held by a copy would outlive the parent.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from fusepkg_cache._translate import translated
from fusepkg_cache.bound import Bound
from fusepkg_cache.claims import Claims
from fusepkg_cache.errors import CacheError
from fusepkg_cache.eviction import Evictor
from fusepkg_cache.files import BlobFiles
from fusepkg_cache.finding import Finder
from fusepkg_cache.index import BlobIndex
from fusepkg_cache.layout import prepare
from fusepkg_cache.pins import Pins
from fusepkg_cache.recency import Recency
from fusepkg_cache.remembered import RememberedSums
from fusepkg_cache.segments import Segments
from fusepkg_cache.unfinished import UnfinishedFiles
from fusepkg_cache.upkeep import Upkeep
from fusepkg_cache.write_lock import WriteLock

if TYPE_CHECKING:
    from pathlib import Path

    from fusepkg_cache.layout import CacheLayout

_opened: dict[tuple[int, int], OpenDirectory] = {}

opening_lock = threading.RLock()
"""Held while a directory is opened or closed, and across a fork: the child does not inherit it locked by a thread that
it does not have."""

CLOSE_PATIENCE_S = 5.0
"""How long closing waits to write what was read lately: that may be lost."""


def _after_fork_in_child() -> None:
    for opened in _opened.values():
        opened.forget()
    _opened.clear()
    opening_lock.release()


os.register_at_fork(
    before=opening_lock.acquire, after_in_parent=opening_lock.release, after_in_child=_after_fork_in_child
)


class OpenDirectory:
    """What is open of one directory. Made by ``acquire``, closed when the last ``release`` is called."""

    def __init__(self, layout: CacheLayout) -> None:
        self.layout = layout
        self.process = os.getpid()
        self.users = 0
        self.unfinished = UnfinishedFiles(layout.staging)
        self.files = BlobFiles(layout.blobs)
        self.segments = Segments(layout.segments)
        self.remembered = RememberedSums()
        self.pins = Pins(layout.pins, self.unfinished)
        self.claims = Claims(layout.claims_file)
        with translated(f"cannot open the cache in {layout.directory}"):
            self.index = BlobIndex(layout.index_file, WriteLock(layout.lock_file, self._prepared), self._prepared)
            self.finder = Finder(self.index, self.segments, self.files)
            self.upkeep = Upkeep(lambda: self.bound.step())
            self.recency = Recency(self.index, self.upkeep.wake)
            self.evictor = Evictor(self.segments, self.files, self.pins, self.recency)
            self.bound = Bound(layout, self.index, self.segments, self.evictor, self.finder, self.recency)
            self.index.when_lost = self.upkeep.wake
            self._count_blobs()

    def _prepared(self) -> int:
        """The number of the newest segment, with the directory made again if somebody removed it."""
        prepare(self.layout.directory)
        return max(self.segments.numbers(), default=0)

    def _count_blobs(self) -> None:
        """Count blobs that were not counted yet, in the background."""
        if not self.bound.walk_due:
            return
        if os.listdir(self.layout.blobs) or self.segments.numbers():
            self.upkeep.wake()
        else:
            with suppress(OSError):  # a full disk, say: later, then
                self.index.change(lambda change: setattr(change.header, "walked", change.now))

    def close(self) -> None:
        """Write what was read lately, and let go of everything."""
        with suppress(OSError, CacheError):
            self.recency.write(CLOSE_PATIENCE_S)
        self.upkeep.close(CLOSE_PATIENCE_S)
        self.bound.close()
        self.index.close()
        self.segments.close()
        self.unfinished.close()

    def forget(self) -> None:
        """In a forked child: close the copies of what the parent has open."""
        self.index.forget()
        self.segments.forget()
        self.unfinished.disown()

    @property
    def ours(self) -> bool:
        """Whether this process opened it, rather than one it was forked from."""
        return self.process == os.getpid()


def acquire(directory: Path) -> OpenDirectory:
    """What is open of a directory. Raises CacheUnusable."""
    layout = prepare(directory)
    with opening_lock:
        found = layout.root.stat()
        key = (found.st_dev, found.st_ino)
        opened = _opened.get(key) or _replaced(layout) or OpenDirectory(layout)
        _opened[key] = opened
        opened.users += 1
        return opened


def _replaced(layout: CacheLayout) -> OpenDirectory | None:
    """What is open of a directory that was removed and made again: it goes on in the new one, under the same path."""
    return next((opened for opened in _opened.values() if opened.layout == layout), None)


def release(opened: OpenDirectory) -> None:
    """Leave a directory, and close it after its last user. Does nothing in a forked child."""
    with opening_lock:
        if not opened.ours:
            return
        opened.users -= 1
        if not opened.users:
            for key in [key for key, value in _opened.items() if value is opened]:
                del _opened[key]
            opened.close()
