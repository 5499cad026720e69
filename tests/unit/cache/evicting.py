"""Making a cache smaller at once, as a bound does little by little."""

from __future__ import annotations

from fusepkg_cache import Cache, Cleared
from fusepkg_cache.eviction import Evictor


def shrink(cache: Cache, max_bytes: int) -> Cleared:
    """Evict until at most so many bytes are left, or nothing that is not pinned."""
    opened = cache._directory()
    opened.recency.write()
    opened.finder.find_all_files()
    evictor = Evictor(opened.segments, opened.files, opened.pins, opened.recency)
    sizes: list[int] = []
    while opened.index.header().held_bytes > max_bytes and not evictor.resting:
        sizes += opened.index.change(lambda change: evictor.drop(change, max_bytes))
    return Cleared(len(sizes), sum(sizes))
