"""Keeping what was fetched: in the cache, or for a moment in memory where the cache refuses.

Owns: the one warning about a cache that cannot be written, and the few blobs held instead. Must not know: where bytes
came from, or which reads are waiting.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING

import trio
from fusepkg_cache.errors import CacheError

if TYPE_CHECKING:
    from fusepkg_cache import Cache
    from fusepkg_cache.digest import Digest

    from fusepkg.fetch.counters import Counters

log = logging.getLogger(__name__)

HELD_BYTES = 32 * 1024 * 1024
"""Held in memory of what the cache refused: four chunks. A reader asks for a chunk in 64 pieces, and without this each
of them would fetch it again."""

KEEPING_THREADS = 16
"""Writes to the cache at a time: they share commits, so more wait together rather than for each other."""


class Keeper:
    """The cache as the fetch path uses it."""

    def __init__(self, cache: Cache, counters: Counters) -> None:
        self.cache = cache
        self._counters = counters
        self._held: OrderedDict[Digest, bytes] = OrderedDict()
        self._held_bytes = 0
        self._threads = trio.CapacityLimiter(KEEPING_THREADS)

    def read(self, digest: Digest, offset: int, length: int) -> bytes | None:
        """Part of a blob that is kept, checked; None where it is not. No checkpoint."""
        data = self.cache.read(digest, offset, length)
        if data is None and digest in self._held:
            return self._held[digest][offset : offset + length]
        return data

    async def keep(self, digest: Digest, data: bytes) -> None:
        """Put a verified blob into the cache; where that fails, hold it for a while. Raises nothing but Cancelled."""
        try:
            await trio.to_thread.run_sync(self.cache.put, digest, data, limiter=self._threads)
        except CacheError as exc:
            if not self._counters.cache_failures:
                log.warning("the cache cannot be written, reads go to the bucket: %s", exc)
        except Exception:
            log.exception("%s could not be kept, which is a bug in fusepkg", digest)
        else:
            return
        self._counters.cache_failures += 1
        self._hold(digest, data)

    def _hold(self, digest: Digest, data: bytes) -> None:
        if digest not in self._held:
            self._held[digest] = data
            self._held_bytes += len(data)
        while self._held_bytes > HELD_BYTES:
            self._held_bytes -= len(self._held.popitem(last=False)[1])
