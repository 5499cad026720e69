"""Large blobs that can only be verified as a whole, for want of a chunk list: streamed into the cache."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio
from fusepkg_cache.errors import CacheError

from fusepkg.errors import CacheFailure, DigestMismatch, ObjectMissing
from fusepkg.fetch.piece import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fusepkg_cache import Claim

    from fusepkg.fetch.bucket import BucketReader
    from fusepkg.fetch.cache_tier import CacheTier
    from fusepkg.fetch.counters import Counters
    from fusepkg.fetch.flight import Flight
    from fusepkg.fetch.lower_cache import LowerCacheThreads

_T = TypeVar("_T")


class WholeBlobs:
    """Streams blobs from the lower cache or the bucket. All methods run on the loop's thread."""

    def __init__(self, tier: CacheTier, bucket: BucketReader, lower: LowerCacheThreads, counters: Counters) -> None:
        self._tier = tier
        self._bucket = bucket
        self._lower = lower
        self._counters = counters

    async def fetch(self, flight: Flight) -> None:
        """Stream a blob into the cache, or else into a temporary file, and land its flight.

        Raises RemoteError, DigestMismatch, CacheFailure.
        """
        entry, name, in_cache = flight.piece.entry, flight.piece.name, flight.piece.kind is Kind.WHOLE

        async def from_bucket(take: Callable[[Iterable[bytes]], _T]) -> _T | None:
            give = partial(self._bucket.give, flight.entry, lambda pieces: take(_beating(pieces, flight.claim)))
            return await trio.to_thread.run_sync(give, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1))

        try:
            if not await self._from_lower(flight):
                try:
                    await self._tier.keep_pieces(name, from_bucket, in_cache=in_cache)
                except (ObjectMissing, DigestMismatch):
                    if not await trio.to_thread.run_sync(self._bucket.has_moved, flight, abandon_on_cancel=True):
                        raise
                    await self._tier.keep_pieces(name, from_bucket, in_cache=in_cache)
                self._counters.fetched_objects += 1
                self._counters.fetched_bytes += entry.size
        except CacheError as exc:
            raise CacheFailure(f"{entry.logical_key}: cannot be kept to be read from: {exc}") from exc
        flight.land(b"")

    async def _from_lower(self, flight: Flight) -> bool:
        lower = self._tier.cache.lower if self._tier.cache else None
        if lower is None:
            return False
        name, size = flight.piece.name, flight.piece.length

        async def draw(take: Callable[[Iterable[bytes]], _T]) -> _T | None:
            return await self._lower.ask(
                lambda progress: lower.give(
                    name, lambda _, pieces: take(_beating(pieces, flight.claim, progress)), size=size
                )
            )

        if not await self._tier.keep_pieces(name, draw, in_cache=flight.piece.kind is Kind.WHOLE):
            return False
        self._counters.lower_objects += 1
        self._counters.lower_bytes += size
        return True


def _beating(
    pieces: Iterable[bytes], claim: Claim | None, progress: Callable[[], None] = lambda: None
) -> Iterator[bytes]:
    """Yield the pieces, and refresh the claim's heartbeat with each."""
    for piece in pieces:
        if claim is not None:
            claim.beat()
        progress()
        yield piece
