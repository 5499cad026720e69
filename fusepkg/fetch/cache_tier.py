"""The cache as the pipeline uses it. While it cannot be used, pieces are held in memory and the cache is tried again.

Lookups and claims run on the event loop, without a checkpoint, and never ask the lower cache. Writing and opening run
in threads, except for the first opening.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import trio
from fusepkg_cache import BlobTooLarge, TemporaryBlob
from fusepkg_cache.errors import CacheError, CacheUnusable

from fusepkg.fetch.held import HELD_BYTES, HELD_BYTES_ALONE, Arrived, HeldPieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fusepkg_cache import Cache, Claim, Verified
    from fusepkg_cache.digest import Digest

    from fusepkg.fetch.counters import Counters

log = logging.getLogger(__name__)

HELD_FILES = 32
"""Large blobs without a chunk list that are held in temporary files if there is no cache for them."""

SMALL_CACHE_BYTES = 1024**3
"""A cache limited to less than this may evict what is being read, so more is held in memory."""

EVICTED_EARLY_S = 60.0
"""How long more is held in memory after a piece was evicted so soon that it had to be fetched again."""

_RECENT = 4096
"""How many recently fetched pieces are remembered, to notice such evictions."""

WRITING_THREADS = 4
"""Writes to the cache at a time."""

RETRY_S = 30.0
"""Seconds before a cache that failed is tried again: on a failing disk each try may take seconds."""

WARN_AGAIN_S = 600.0
"""Seconds between two warnings: a disk that is sometimes full would fill the log."""

_T = TypeVar("_T")


class Draw(Protocol):
    """Where pieces of a large blob come from."""

    async def __call__(self, take: Callable[[Iterable[bytes]], _T], /) -> _T | None:
        """Run ``take`` on the pieces in a thread; None where there are none."""


class CacheTier:
    """The cache, and the pieces it refused. ``open_cache`` is called until it raises no CacheError."""

    def __init__(self, open_cache: Callable[[], Cache], counters: Counters) -> None:
        self._open_cache = open_cache
        self._counters = counters
        self._cache: Cache | None = None
        self._is_small = False
        self._closed = False
        self._again_s = 0.0
        self._failing = False
        self._warned_s: float | None = None
        self._held = HeldPieces()
        self._arrived = Arrived()
        self.is_read_by_others = False
        """Whether other processes read what the cache has: no reader will pass here what is kept there."""
        self._files: OrderedDict[Digest, TemporaryBlob] = OrderedDict()
        self._recent: OrderedDict[Digest, None] = OrderedDict()
        self._evicts_until_s = 0.0
        self._threads = trio.CapacityLimiter(WRITING_THREADS)
        try:
            self._cache = self._open()
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

    def read(self, name: Digest, offset: int, length: int) -> bytes | None:
        """Return part of a blob that is here, checked; None if it is not."""
        data = self._arrived.read(name, offset, length)
        if data is not None:
            return data
        data = self._held.read(name, offset, length)
        if data is not None:
            if not self.is_tight:
                self._held.drop_passed(name)
            return data
        if self._cache is not None:
            data = self._cache.read(name, offset, length, own_only=True)
            if data is not None:
                return data
        file = self._files.get(name)
        if file is None:
            return None
        self._files.move_to_end(name)
        return file.read(offset, length)

    def read_held(self, name: Digest, offset: int, length: int) -> bytes | None:
        """Return part of a piece that is held in memory; None if it is not."""
        return self._held.read(name, offset, length)

    def get(self, name: Digest) -> bytes | None:
        """Return a whole blob that is here, checked; None if it is not."""
        data = self._held.get(name)
        if data is None and self._cache is not None and name in self._cache:
            data = self._cache.get(name, own_only=True)
        return data

    def has(self, name: Digest) -> bool:
        """Whether a blob is kept, or held meanwhile."""
        return name in self._held or self.has_in_cache(name) or name in self._files

    def has_file(self, name: Digest) -> bool:
        """Whether a blob is held in a temporary file."""
        return name in self._files

    def has_in_cache(self, name: Digest) -> bool:
        """Whether the cache has a blob."""
        return self._cache is not None and name in self._cache

    @property
    def is_tight(self) -> bool:
        """Whether there is no cache, or one that may not keep a piece until its readers have passed it."""
        return self._cache is None or self._failing or self._is_small or time.monotonic() < self._evicts_until_s

    @property
    def has_room_ahead(self) -> bool:
        """Whether prefetched pieces will stay until they are read."""
        return not self.is_tight or self._held.bytes < HELD_BYTES_ALONE // 2

    def get_many(self, names: list[Digest]) -> list[bytes | None]:
        """Return whole blobs that the cache has, checked, or None, in the order asked."""
        if self._cache is None or not names:
            return [None] * len(names)
        return self._cache.get_many(names, own_only=True)

    def claim(self, name: Digest) -> Claim | None:
        """Return a claim on fetching a blob, not taken yet; None if there is no cache to share it through."""
        if self._cache is not None:
            try:
                return self._cache.claim(name)
            except CacheError:
                log.debug("%s is fetched without a claim", name, exc_info=True)
        return None

    # --- keeping ---------------------------------------------------------------------------------------------

    def note_fetched(self, name: Digest) -> None:
        """Note that a blob was fetched. If it was fetched recently already, the cache evicts too early: hold more."""
        if name in self._recent and self._cache is not None:
            self._evicts_until_s = time.monotonic() + EVICTED_EARLY_S
        self._recent[name] = None
        while len(self._recent) > _RECENT:
            self._recent.popitem(last=False)

    def hold(self, name: Digest, data: bytes) -> None:
        """Hold a piece in memory until its readers have passed it, or others need the room."""
        self._held.bound = HELD_BYTES_ALONE if self.is_tight else HELD_BYTES
        self._held.add(name, data)

    def hold_until_read(self, name: Digest, data: bytes) -> None:
        """Hold a small piece that was fetched ahead in memory until it is read, beside what the cache keeps of it."""
        self._arrived.add(name, data)

    def forget_unread(self) -> None:
        """Hold nothing more that was fetched ahead."""
        self._arrived.clear()

    async def keep(self, blobs: list[Verified], asked_for: list[Verified]) -> None:
        """Put blobs into the cache; hold those it refuses. Raises nothing but Cancelled.

        ``asked_for`` are those of them that a reader missed, as opposed to those fetched ahead.
        """
        unreadable = [blob for blob in asked_for if self.has_in_cache(blob.digest)]  # it was missed all the same
        for blob in unreadable:
            self.hold(blob.digest, blob.data)
        refused = blobs
        if self._may_try():
            try:
                refused = await trio.to_thread.run_sync(self._put_all, blobs, limiter=self._threads)
            except CacheError as exc:
                self._refused(exc)
            except Exception:
                log.exception("%d blobs could not be kept, which is a bug in fusepkg", len(blobs))
            else:
                self._works()
        self._counters.cache_failures += len(refused)
        for blob in refused:
            self.hold(blob.digest, blob.data)
        if not self.is_tight:
            held_on = {blob.digest for blob in (*refused, *unreadable)}
            for blob in blobs:
                if self.is_read_by_others and blob.digest not in held_on:
                    self._held.drop(blob.digest)
                else:
                    self._held.drop_passed(blob.digest)

    async def keep_pieces(self, name: Digest, draw: Draw, *, in_cache: bool = True) -> bool:
        """Put a large blob into the cache, or else into a temporary file; False if ``draw`` found no pieces.

        ``draw(take)`` runs ``take(pieces)`` in a thread, perhaps twice, and returns its result. Raises what ``draw``
        raises, such as DigestMismatch, and CacheUnusable if neither the cache nor a temporary file has room.
        """
        if in_cache and self._may_try():
            try:
                kept = await draw(partial(self._put_pieces, name))
            except BlobTooLarge as exc:
                log.debug("%s is not kept: %s", name, exc)
            except CacheUnusable as exc:
                self._refused(exc)
            else:
                if kept is None:
                    self._again_s = 0.0  # the cache was not tried after all
                    return False
                self._works()
                return True
        blob = await draw(partial(TemporaryBlob, name))
        if blob is None:
            return False
        self._counters.cache_failures += 1
        self._files[name] = blob
        while len(self._files) > HELD_FILES:
            self._files.popitem(last=False)
        return True

    # --- with and without a cache ----------------------------------------------------------------------------

    def _may_try(self) -> bool:
        """Return whether to use the cache for this write; while it fails, one write in RETRY_S seconds may."""
        if self._failing:
            now = time.monotonic()
            if now < self._again_s:
                return False
            self._again_s = now + RETRY_S
        return True

    def _open(self) -> Cache:
        """Open the cache. Raises CacheUnusable."""
        cache = self._open_cache()
        max_bytes = cache.info().max_bytes
        self._is_small = max_bytes is not None and max_bytes < SMALL_CACHE_BYTES
        return cache

    def _opened(self) -> Cache:
        """Return the cache, opened now if it is not. In a thread. Raises CacheUnusable."""
        cache = self._cache
        if cache is None:
            cache = self._open()
            self._cache = cache
        if self._closed:
            cache.close()  # what is done with it now is refused
        return cache

    def _put_all(self, blobs: list[Verified]) -> list[Verified]:
        """Put blobs together; return those too large for the cache. In a thread. Raises CacheUnusable."""
        try:
            self._opened().put_many(blobs)
        except BlobTooLarge as exc:
            if len(blobs) == 1:
                log.debug("%s is not kept: %s", blobs[0].digest, exc)
                return blobs
            return [refused for blob in blobs for refused in self._put_all([blob])]
        return []

    def _put_pieces(self, name: Digest, pieces: Iterable[bytes]) -> bool:
        self._opened().put_pieces(name, pieces)
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
