"""Keeping what was fetched: in the cache, or for a moment elsewhere while the cache cannot be used.

Owns: opening the cache, going on without it, the one warning about that, trying it again, and the few blobs held
instead. Must not know: where bytes came from, or which reads are waiting.

Concurrency: ``read``, ``get`` and ``has`` run on the loop, have no checkpoint and look only in the cache's own tiers.
What opens or writes the cache runs in threads, except for the first opening.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import trio
from fusepkg_cache import BlobTooLarge, TemporaryBlob
from fusepkg_cache.errors import CacheError, CacheUnusable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from fusepkg_cache import Cache, Claim
    from fusepkg_cache.digest import Digest

    from fusepkg.fetch.counters import Counters

log = logging.getLogger(__name__)

HELD_BYTES = 32 * 1024 * 1024
"""Held in memory of what the cache refused: four chunks. A reader asks for a chunk in 64 pieces, and without this each
of them would fetch it again."""

HELD_FILES = 4
"""Large blobs without a chunk list that are held in temporary files meanwhile: as many as are fetched at a time."""

KEEPING_THREADS = 16
"""Writes to the cache at a time: they share commits, so more wait together rather than for each other."""

RETRY_S = 30.0
"""Until a cache that could not be used is tried again: a failing disk may take seconds for each try."""

WARN_AGAIN_S = 600.0
"""Between two warnings: a disk that is now and then full would fill the log."""


_T = TypeVar("_T")


class Draw(Protocol):
    """Where pieces of a large blob come from."""

    async def __call__(self, take: Callable[[Iterable[bytes]], _T], /) -> _T | None:
        """Run ``take`` on the pieces in a thread; None where there are none."""


class Keeper:
    """The cache as the fetch path uses it. ``open_cache`` is called once, and again until it raises no CacheError."""

    def __init__(self, open_cache: Callable[[], Cache], counters: Counters) -> None:
        self._open_cache = open_cache
        self._counters = counters
        self._cache: Cache | None = None
        self._closed = False
        self._again_s = 0.0
        self._failing = False
        self._warned_s: float | None = None
        self._held: OrderedDict[Digest, bytes] = OrderedDict()
        self._held_bytes = 0
        self._files: OrderedDict[Digest, TemporaryBlob] = OrderedDict()
        self._threads = trio.CapacityLimiter(KEEPING_THREADS)
        try:
            self._cache = open_cache()
        except CacheError as exc:
            self._refused(exc)

    def close(self) -> None:
        """Close the cache. What is still being kept by then is not."""
        self._closed = True
        cache, self._cache = self._cache, None
        if cache is not None:
            cache.close()

    @property
    def cache(self) -> Cache | None:
        """The open cache; None while there is none."""
        return self._cache

    # --- looking ---------------------------------------------------------------------------------------------

    def read(self, digest: Digest, offset: int, length: int) -> bytes | None:
        """Part of a blob that is kept, checked; None where it is not. No checkpoint."""
        if self._cache is not None:
            data = self._cache.read(digest, offset, length, own_only=True)
            if data is not None:
                return data
        if digest in self._held:
            self._held.move_to_end(digest)
            return self._held[digest][offset : offset + length]
        file = self._files.get(digest)
        return None if file is None else file.read(offset, length)

    def get(self, digest: Digest) -> bytes | None:
        """A whole blob that is kept, checked; None where it is not. No checkpoint."""
        data = None if self._cache is None else self._cache.get(digest, own_only=True)
        return self._held.get(digest) if data is None else data

    def has(self, digest: Digest) -> bool:
        """Whether a blob is kept, or held meanwhile. No checkpoint."""
        return self.has_in_cache(digest) or digest in self._held or digest in self._files

    def has_file(self, digest: Digest) -> bool:
        """Whether a blob is held in a temporary file."""
        return digest in self._files

    def has_in_cache(self, digest: Digest) -> bool:
        """Whether the cache has a blob. No checkpoint."""
        return self._cache is not None and digest in self._cache

    def claim(self, digest: Digest) -> AbstractContextManager[Claim | None]:
        """A claim on fetching a blob, not taken yet; None where there is no cache to share it through."""
        if self._cache is not None:
            try:
                return self._cache.claim(digest)
            except CacheError:
                log.debug("%s is fetched without a claim", digest, exc_info=True)
        return nullcontext()

    # --- keeping ---------------------------------------------------------------------------------------------

    async def keep(self, digest: Digest, data: bytes) -> None:
        """Put a verified blob into the cache; where that fails, hold it for a while. Raises nothing but Cancelled."""
        if self.has_in_cache(digest):  # and yet it was fetched: the disk cannot read it, and may not the next time
            self._hold(digest, data)
        if self._may_try():
            try:
                await trio.to_thread.run_sync(self._put, digest, data, limiter=self._threads)
            except BlobTooLarge as exc:
                log.debug("%s is not kept: %s", digest, exc)
            except CacheError as exc:
                self._refused(exc)
            except Exception:
                log.exception("%s could not be kept, which is a bug in fusepkg", digest)
            else:
                self._works()
                return
        self._counters.cache_failures += 1
        self._hold(digest, data)

    async def keep_pieces(self, digest: Digest, draw: Draw, *, in_cache: bool = True) -> bool:
        """Put a large blob into the cache, or else into a temporary file; False where there were no pieces.

        ``draw(take)`` runs ``take(pieces)`` in a thread, and gives what that gives; perhaps twice. Raises what it
        raises: DigestMismatch, CacheUnusable where there is no room anywhere.
        """
        if in_cache and self._may_try():
            try:
                kept = await draw(partial(self._put_pieces, digest))
            except BlobTooLarge as exc:
                log.debug("%s is not kept: %s", digest, exc)
            except CacheUnusable as exc:
                self._refused(exc)
            else:
                if kept is None:
                    self._again_s = 0.0  # the cache was not tried after all
                    return False
                self._works()
                return True
        blob = await draw(partial(TemporaryBlob, digest))
        if blob is None:
            return False
        self._counters.cache_failures += 1
        self._files[digest] = blob
        while len(self._files) > HELD_FILES:
            self._files.popitem(last=False)
        return True

    # --- with and without a cache ----------------------------------------------------------------------------

    def _may_try(self) -> bool:
        """Whether to use the cache for this write; of those that come while it fails, one in a while tries."""
        if self._failing:
            now = time.monotonic()
            if now < self._again_s:
                return False
            self._again_s = now + RETRY_S
        return True

    def _opened(self) -> Cache:
        """The cache, opened now if it is not. In a thread. Raises CacheUnusable."""
        cache = self._cache
        if cache is None:
            cache = self._open_cache()
            self._cache = cache
        if self._closed:
            cache.close()  # what is done with it now is refused
        return cache

    def _put(self, digest: Digest, data: bytes) -> None:
        self._opened().put(digest, data)

    def _put_pieces(self, digest: Digest, pieces: Iterable[bytes]) -> bool:
        self._opened().put_pieces(digest, pieces)
        return True

    def _refused(self, exc: CacheError) -> None:
        now = time.monotonic()
        if not self._failing:
            self._failing, self._again_s = True, now + RETRY_S
            again = self._warned_s is not None and now - self._warned_s < WARN_AGAIN_S
            if not again and not self._closed:
                self._warned_s = now
                log.warning("the cache cannot be used, reads go to the bucket: %s", exc)

    def _works(self) -> None:
        if self._failing:
            self._failing = False
            log.info("the cache is used again")

    def _hold(self, digest: Digest, data: bytes) -> None:
        if digest not in self._held:
            self._held[digest] = data
            self._held_bytes += len(data)
        while self._held_bytes > HELD_BYTES and len(self._held) > 1:
            self._held_bytes -= len(self._held.popitem(last=False)[1])
