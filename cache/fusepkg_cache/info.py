"""What can be told of a cache without looking at its blobs.

Owns: the figures, and where they are kept. Must not know: who shows them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg_cache.layout import LAYOUT_VERSION
from fusepkg_cache.tiers import counted

if TYPE_CHECKING:
    from pathlib import Path

    from fusepkg_cache.session import Session


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """What a cache holds, from totals that are kept with every change; nothing is scanned.

    ``max_bytes`` and ``min_free_bytes`` are what this process keeps to. ``complete`` is False while large blobs are
    still being counted whose records were lost. ``pins`` is the number of pins.

    Over the life of the cache, and by all processes: ``verification_failures`` blobs were found damaged, and dropped;
    ``evictions`` blobs made room for others. ``small_hits``, ``large_hits`` and ``misses`` are reads answered by each
    tier, and by neither; of the misses, the lower tier had ``lower_hits``. Other processes write what they counted
    once a minute. ``errors`` are the reads that this object answered as misses because the disk failed.
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


def information(session: Session, errors: int) -> CacheInfo:
    """The present figures."""
    session.environment.refresh()
    totals, counts, (small_blobs, large_blobs), walked = session.environment.view(counted)
    counts += session.recency.counts
    return CacheInfo(
        directory=session.layout.directory,
        layout_version=LAYOUT_VERSION,
        max_bytes=session.bound.max_bytes,
        min_free_bytes=session.bound.min_free_bytes,
        complete=walked > 0,
        bytes=totals.small_bytes + totals.large_bytes,
        blobs=small_blobs + large_blobs,
        small_bytes=totals.small_bytes,
        small_blobs=small_blobs,
        large_bytes=totals.large_bytes,
        large_blobs=large_blobs,
        pins=len(session.pins.all()),
        evictions=counts.evictions,
        evicted_bytes=counts.evicted_bytes,
        small_hits=counts.small_hits,
        large_hits=counts.large_hits,
        lower_hits=counts.lower_hits,
        misses=counts.misses,
        verification_failures=totals.verification_failures,
        errors=errors,
    )
