"""Settings of the read path: the cache's directory and bounds, the lower cache, how long reads are tried."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from fusepkg_cache import Cache


@dataclass(frozen=True, slots=True)
class Amount:
    """So many bytes, or such a part of a disk: the lesser, where both are said."""

    bytes: int | None = None
    part: float | None = None

    def of_disk(self, disk_bytes: int) -> int:
        """In bytes, on a disk of that size."""
        said = [value for value in (self.bytes, _part_of(disk_bytes, self.part)) if value is not None]
        return min(said)


def _part_of(disk_bytes: int, part: float | None) -> int | None:
    return None if part is None else int(disk_bytes * part)


DEFAULT_FREE = Amount(bytes=5 * 1024**3, part=0.05)
"""Room left on the cache's disk unless said otherwise: 5 % of it, 5 GiB at most. A cache that has all but that serves
more reads than any smaller one, and other programs still find room; so there is no bound besides, by default."""


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """The cache of blobs. ``size`` bounds it (None: nothing does), ``free`` stays free on its disk."""

    directory: Path
    size: Amount | None = None
    free: Amount = DEFAULT_FREE
    lower: Path | None = None

    def open(self) -> Cache:
        """Open it; nothing is scanned. Raises CacheUnusable."""
        from fusepkg_cache import Cache  # here, because these settings are read by commands that open no cache

        disk_bytes = _disk_bytes(self.directory)
        return Cache(
            self.directory,
            max_bytes=None if self.size is None else self.size.of_disk(disk_bytes),
            min_free_bytes=self.free.of_disk(disk_bytes),
            lower=self.lower,
        )


def _disk_bytes(directory: Path) -> int:
    """The size of the disk that a directory lies on, or will lie on. 0 where there is none: opening tells why."""
    for place in (directory, *directory.parents):
        try:
            found = os.statvfs(place)
        except FileNotFoundError:
            continue
        except OSError:
            return 0
        return found.f_blocks * found.f_frsize
    return 0
