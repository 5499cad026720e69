"""What can be told of a cache without looking at its blobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg_cache.layout import LAYOUT_VERSION
from fusepkg_cache.records import Counts

if TYPE_CHECKING:
    from pathlib import Path

    from fusepkg_cache.open_directory import OpenDirectory


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """What a cache holds, from totals that are kept with every change; nothing is scanned.

    ``max_bytes`` and ``min_free_bytes`` are what this process keeps to. ``complete`` is False while blobs are
    still being counted that the index lacks. ``pins`` is the number of pins.

    Over the life of the cache, and by all processes: ``verification_failures`` blobs were found damaged, and dropped;
    ``evictions`` blobs made room for others. ``small_hits``, ``large_hits`` and ``misses`` are reads answered by
    segments, by files, and by neither; of the misses, the lower cache had ``lower_hits``. Other processes write what
    they counted once a minute. ``errors`` are the reads that this object answered as misses because the disk failed.
    """

    directory: Path
    layout_version: int
    max_bytes: int | None
    min_free_bytes: int | None
    complete: bool
    bytes: int
    blobs: int
    small_bytes: int
    small_blobs: int
    large_bytes: int
    large_blobs: int
    pins: int
    evictions: int
    evicted_bytes: int
    small_hits: int
    large_hits: int
    lower_hits: int
    misses: int
    verification_failures: int
    errors: int


def information(opened: OpenDirectory, errors: int) -> CacheInfo:
    """The present figures."""
    opened.index.refresh()
    header = opened.index.header()
    counts = Counts(**{name: getattr(header, name) for name, _ in Counts().items()}) + opened.recency.counts
    return CacheInfo(
        directory=opened.layout.directory,
        layout_version=LAYOUT_VERSION,
        max_bytes=opened.bound.max_bytes,
        min_free_bytes=opened.bound.min_free_bytes,
        complete=header.walked > 0,
        bytes=header.held_bytes,
        blobs=header.small_blobs + header.large_blobs,
        small_bytes=header.small_bytes,
        small_blobs=header.small_blobs,
        large_bytes=header.large_bytes,
        large_blobs=header.large_blobs,
        pins=len(opened.pins.all()),
        evictions=counts.evictions,
        evicted_bytes=counts.evicted_bytes,
        small_hits=counts.small_hits,
        large_hits=counts.large_hits,
        lower_hits=counts.lower_hits,
        misses=counts.misses,
        verification_failures=header.verification_failures,
        errors=errors,
    )
