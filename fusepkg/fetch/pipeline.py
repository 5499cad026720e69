"""The one loop that fetches: what readers miss is gathered, and goes from cache to lower cache to bucket together.

A turn of the loop takes what has arrived (to its readers first, then to be kept), begins what has a slot, and starts to
keep what waits for that. All of it runs on one trio thread; between a miss and joining a flight there is no checkpoint.
"""

from __future__ import annotations

import heapq
import logging
from collections import deque
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

import trio
from fusepkg_cache.digest import Verified

from fusepkg.errors import DigestMismatch, FusepkgError, RemoteUnavailable
from fusepkg.fetch.bucket import BucketReader
from fusepkg.fetch.cache_writes import CacheWrites
from fusepkg.fetch.flight import Flight, RangeFlight
from fusepkg.fetch.lower_cache import LowerCacheThreads
from fusepkg.fetch.piece import Kind
from fusepkg.fetch.retries import is_transient, pause_after
from fusepkg.fetch.slots import SMALL_BYTES, Slots
from fusepkg.fetch.whole import WholeBlobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fusepkg_cache import LowerCache as LowerDirectory
    from fusepkg_cache.digest import Digest

    from fusepkg.fetch.bucket import Outcome
    from fusepkg.fetch.cache_tier import CacheTier
    from fusepkg.fetch.counters import Counters
    from fusepkg.fetch.piece import Piece, PieceKey
    from fusepkg.model.entry import Entry
    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.store.protocol import ObjectStore

log = logging.getLogger(__name__)

AGAIN_S = 5.0
"""A small piece is asked for a second time, beside the first request, if that has not been answered after this long."""

TURN_SHARE = 4
"""Pieces that other processes fetch are looked for after a pause of this many times what the last turn took: looking
for many must not take all of the loop."""

LOWER_ASKERS = 16
"""Threads among which the pieces of one turn are divided to be looked for in the lower cache."""


class FetchPipeline:
    """Fetches pieces, each once for all readers of all processes. Runs in ``nursery`` until that is cancelled.

    A request that fails for a reason that may pass is made again, for ``retry_timeout_s`` seconds from then on.
    """

    def __init__(
        self,
        tier: CacheTier,
        counters: Counters,
        store_for: Callable[[PhysicalKey], tuple[ObjectStore, str]],
        chunk_list: Callable[[Digest], list[bytes]],
        nursery: trio.Nursery,
        *,
        retry_timeout_s: float,
        note_damaged: Callable[[PhysicalKey], None],
        elsewhere: Callable[[Entry], PhysicalKey | None],
    ) -> None:
        token = trio.lowlevel.current_trio_token()

        def arrived() -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(self._wake, idempotent=True)

        self._tier = tier
        self._counters = counters
        self._nursery = nursery
        self._retry_timeout_s = retry_timeout_s
        self._bucket = BucketReader(store_for, chunk_list, arrived, note_damaged, elsewhere)
        self._lower = LowerCacheThreads()
        self._whole = WholeBlobs(tier, self._bucket, self._lower, counters)
        self._slots = Slots()
        self._flights: dict[PieceKey, Flight] = {}
        self._later: list[tuple[float, int, Flight]] = []
        self._numbers = count()
        self._asked: deque[tuple[float, Flight]] = deque()
        self._cache_writes = CacheWrites(tier, nursery, self._kept)
        self._something = trio.Event()
        self._turn_s = 0.0
        self._ended = False
        self._scope = trio.CancelScope()
        nursery.start_soon(self._run)

    def close(self) -> None:
        """End the loop: who still waits gets RemoteUnavailable. Let threads end that have nothing to do."""
        self._scope.cancel()
        self._bucket.close()

    @property
    def under_way(self) -> int:
        """How many pieces are being fetched or kept."""
        return len(self._flights)

    def want(self, piece: Piece, *, keep: bool = True, background: bool = False) -> Flight:
        """Return the one flight of a piece, started now if there is none. No checkpoint.

        With ``background`` it begins when nothing else wants a slot.
        """
        flight = self._flights.get(piece.key)
        if flight is None:
            flight = Flight(piece, background, keep)
            if self._ended:
                flight.fail(_ending())
                return flight
            self._flights[piece.key] = flight
            self._slots.add(flight)
            self._wake()
        flight.keep = flight.keep or keep
        if flight.background and not background:
            self._slots.promote(flight)
            if flight.carrier is not None:
                self._slots.promote(flight.carrier)
            self._wake()
        return flight

    def is_wanted(self, piece: Piece) -> bool:
        """Whether there is a flight of a piece."""
        return piece.key in self._flights

    def want_range(
        self,
        part: Piece,
        pieces: Iterable[tuple[Piece, int]],
        unusable: Callable[[str], None],
        *,
        background: bool = False,
    ) -> None:
        """Fetch pieces, each with where it begins in ``part`` of an object, in one request. No checkpoint.

        If ``part`` cannot be had, or holds other bytes, ``unusable`` hears why, and pieces that somebody waits for are
        fetched by themselves.
        """
        flight = RangeFlight(part, background, keep=True, unusable=unusable)
        for piece, start in pieces:
            if piece.key not in self._flights:
                self._flights[piece.key] = rider = Flight(piece, background=True, keep=True)
                flight.take_in(rider, start)
        if self._ended or not flight.riders or part.key in self._flights:
            for rider, _ in flight.riders:
                self._leave(rider)
            return
        self._flights[part.key] = flight
        self._slots.add(flight)
        self._wake()

    # --- the loop --------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        self._something.set()

    async def _run(self) -> None:
        try:
            with self._scope:
                while True:
                    with trio.move_on_at(self._next_s()):
                        await self._something.wait()
                    self._something = trio.Event()
                    self._turn(trio.current_time())
        finally:
            self._ended = True
            for flight in list(self._flights.values()):
                if not flight.landed.is_set():
                    flight.fail(_ending())
                self._end(flight)

    def _turn(self, now: float) -> None:
        for flight, outcome in self._bucket.drain():
            self._take(flight, outcome, now)
        while self._later and self._later[0][0] <= now:
            self._slots.add(heapq.heappop(self._later)[2])
        self._ask_again(now)
        while flights := self._slots.take(now):
            self._begin(flights, now)
        self._turn_s = trio.current_time() - now
        self._cache_writes.start()

    def _next_s(self) -> float:
        times = [self._slots.next_slow_s()]
        times += [self._later[0][0]] if self._later else []
        times += [self._asked[0][0]] if self._asked else []
        return min((when_s for when_s in times if when_s is not None), default=float("inf"))

    # --- cache, lower cache, bucket --------------------------------------------------------------------------

    def _begin(self, flights: list[Flight], now: float) -> None:
        """Fetch what has a slot: from the cache if another process has kept it meanwhile, else from further away."""
        mine = [flight for flight in flights if self._claim(flight, now)]
        ranges = [flight for flight in mine if isinstance(flight, RangeFlight) and not self._share_range(flight)]
        parts = [flight for flight in mine if not flight.piece.is_streamed and not isinstance(flight, RangeFlight)]
        found = self._tier.get_many([flight.piece.name for flight in parts])
        missing = [flight for flight, data in zip(parts, found, strict=True) if not self._share(flight, data)]
        for flight in mine:
            if flight.piece.is_streamed and not self._was_streamed(flight):
                self._ask(flight, now)
                self._nursery.start_soon(self._fetch_whole, flight)
        lower = self._tier.cache.lower if self._tier.cache else None
        if lower is None or self._lower.is_silent:
            self._submit([*missing, *ranges], now)
            return
        for flight in ranges:
            self._nursery.start_soon(self._range_unless_lower, lower, flight)
        share = -(-len(missing) // LOWER_ASKERS) or 1
        for at in range(0, len(missing), share):
            self._nursery.start_soon(self._from_lower, lower, missing[at : at + share])

    def _claim(self, flight: Flight, now: float) -> bool:
        """Whether this process is to fetch a piece; if another one does, look for it in the cache, again later."""
        if flight.claim is None and flight.keep:
            flight.claim = self._tier.claim(flight.piece.name)
        if flight.claim is None or flight.claim.take():
            return True
        piece = flight.piece
        if isinstance(flight, RangeFlight):
            is_here = self._share_range(flight)
        else:
            is_here = (
                self._was_streamed(flight) if piece.is_streamed else self._share(flight, self._tier.get(piece.name))
            )
        if not is_here:
            self._slots.free(flight)
            self._return_at(flight, now + flight.claim.pause_s + self._turn_s * TURN_SHARE)
        return False

    def _was_streamed(self, flight: Flight) -> bool:
        """Land a flight whose large blob another process has kept, if one has."""
        has = self._tier.has if flight.piece.kind is Kind.WHOLE else self._tier.has_file
        return self._share(flight, b"" if has(flight.piece.name) else None)

    def _share(self, flight: Flight, data: bytes | None) -> bool:
        """Land a flight with what another process has kept, if it has."""
        if data is None or (not flight.piece.is_streamed and len(data) != flight.piece.length):
            return False
        self._counters.shared_objects += 1
        flight.land(data)
        self._end(flight)
        return True

    def _share_range(self, flight: RangeFlight) -> bool:
        """Land the pieces of a range that another process has kept, if it has kept the first one."""
        if not self._tier.has_in_cache(flight.piece.name):
            return False
        flight.land(b"")
        riders = [rider for rider, _ in flight.riders]
        found = self._tier.get_many([rider.piece.name for rider in riders])
        for rider, data in zip(riders, found, strict=True):
            if not self._share(rider, data):
                self._leave(rider)
        return True

    def _leave(self, rider: Flight) -> None:
        """Let a piece go on without the range it is in: by itself if somebody waits for it."""
        if rider.background:
            rider.fail(_passed_over())
            self._end(rider)
            return
        self._leave_carrier(rider)
        self._slots.add(rider)
        self._wake()

    def _leave_carrier(self, rider: Flight) -> None:
        carrier = rider.carrier
        if carrier is not None and carrier.let_go(rider):
            self._end(carrier)

    async def _range_unless_lower(self, lower: LowerDirectory, flight: RangeFlight) -> None:
        """Fetch a range of a pack if the lower cache lacks its first piece; else what is waited for is asked there."""
        if not await self._lower.find(lower, [flight.riders[0][0].piece]):
            self._submit([flight], trio.current_time())
            return
        flight.land(b"")
        for rider, _ in flight.riders:
            self._leave(rider)

    async def _from_lower(self, lower: LowerDirectory, flights: list[Flight]) -> None:
        found = await self._lower.find(lower, [flight.piece for flight in flights])
        now = trio.current_time()
        for flight in flights:
            blob = found.get(flight.piece.name)
            if blob is not None:
                self._counters.lower_objects += 1
                self._counters.lower_bytes += len(blob.data)
                self._land(flight, blob)
        self._submit([flight for flight in flights if not flight.landed.is_set()], now)
        self._wake()

    def _submit(self, flights: list[Flight], now: float) -> None:
        for flight in flights:
            self._ask(flight, now)
        self._bucket.submit(flights)

    def _ask(self, flight: Flight, now: float) -> None:
        flight.attempts += 1
        flight.requests += 1
        if flight.piece.length <= SMALL_BYTES:
            self._asked.append((now + AGAIN_S, flight))

    def _ask_again(self, now: float) -> None:
        """Make a second request for small pieces whose first one is silent: the first answer counts."""
        while self._asked and (self._asked[0][0] <= now or not self._asked[0][1].requests):
            _, flight = self._asked.popleft()
            if flight.requests == 1 and not flight.landed.is_set():
                flight.requests += 1
                self._bucket.submit([flight])

    # --- what comes of it ------------------------------------------------------------------------------------

    def _take(self, flight: Flight, outcome: Outcome, now: float) -> None:
        """Give what has arrived to the readers, or ask again for it later."""
        flight.requests -= 1
        self._counters.wrong_answers = self._bucket.wrong_answers
        if self._ended or flight.landed.is_set():
            return
        if isinstance(flight, RangeFlight):
            self._take_range(flight, outcome)
            return
        if isinstance(outcome, bytes):
            flight.land(outcome)
            self._end(flight)
            return
        if isinstance(outcome, Verified):
            if flight.piece.kind in (Kind.LIST, Kind.HASHES):
                self._counters.chunk_lists += 1
            else:
                self._counters.fetched_objects += 1
                self._counters.fetched_bytes += len(outcome.data)
            self._land(flight, outcome)
            return
        assert isinstance(outcome, FusepkgError), "only ranges have many blobs"
        if flight.requests and is_transient(outcome):
            return  # another request for it is under way
        if flight.first_failed_s is None:
            flight.first_failed_s = now
        piece = flight.piece
        may_try = not piece.is_optional and now - flight.first_failed_s < self._retry_timeout_s
        if is_transient(outcome) and may_try:
            pause_s = pause_after(flight.attempts)
            log.debug("%s is asked for again in %.1f s: %s", piece.entry.physical_key, pause_s, outcome)
            self._slots.free(flight)
            self._return_at(flight, now + pause_s)
            return
        is_missed = not flight.background and not piece.is_optional
        if is_missed:
            self._counters.failed_fetches += 1
            self._counters.digest_mismatches += isinstance(outcome, DigestMismatch)
        level = logging.ERROR if is_missed else logging.INFO
        log.log(level, "cannot read %s (%s): %s", piece.entry.logical_key, piece.entry.physical_key, outcome)
        flight.fail(outcome)
        self._end(flight)

    def _take_range(self, flight: RangeFlight, outcome: Outcome) -> None:
        """Land the pieces of a range; those that it does not hold go on by themselves."""
        blobs: list[Verified | None] = [None] * len(flight.riders)
        if isinstance(outcome, list):
            blobs = outcome
            if flight.riders[0][0].piece.kind is Kind.HASHES:
                self._counters.chunk_lists += 1
            else:
                self._counters.fetched_objects += 1
                self._counters.fetched_bytes += flight.piece.length
            if None in blobs:
                flight.unusable(f"{flight.entry.physical_key} does not hold what it should")
        elif isinstance(outcome, FusepkgError):
            if flight.requests and is_transient(outcome):
                return
            if not is_transient(outcome):
                flight.unusable(outcome.message)
        flight.land(b"")
        for (rider, _), blob in zip(flight.riders, blobs, strict=True):
            if rider.landed.is_set():
                continue
            if blob is None:
                self._leave(rider)
            else:
                self._land(rider, blob)

    def _land(self, flight: Flight, blob: Verified) -> None:
        """Give a piece to its readers, and queue it to be kept."""
        flight.land(blob.data)
        if not flight.keep:
            self._end(flight)
            return
        self._tier.note_fetched(blob.digest)
        if len(blob.data) > SMALL_BYTES or self._tier.is_tight:
            self._tier.hold(blob.digest, blob.data)
        elif flight.background:
            self._tier.hold_until_read(blob.digest, blob.data)
        flight.blob = blob
        self._cache_writes.add(flight)

    def _return_at(self, flight: Flight, when_s: float) -> None:
        heapq.heappush(self._later, (when_s, next(self._numbers), flight))

    def _end(self, flight: Flight) -> None:
        if flight.claim is not None:
            flight.claim.release()
        self._slots.free(flight)
        if self._flights.get(flight.piece.key) is flight:
            del self._flights[flight.piece.key]
        self._leave_carrier(flight)

    def _kept(self, flights: list[Flight]) -> None:
        for flight in flights:
            self._end(flight)
        self._wake()

    async def wait_until_kept(self) -> None:
        """Wait until all pieces that have arrived are in the cache, or refused by it."""
        await self._cache_writes.wait_until_kept()

    async def _fetch_whole(self, flight: Flight) -> None:
        try:
            await self._whole.fetch(flight)
        except FusepkgError as exc:
            self._take(flight, exc, trio.current_time())
        finally:
            if flight.landed.is_set():
                self._end(flight)
            self._wake()


def _passed_over() -> RemoteUnavailable:
    return RemoteUnavailable("it was to be fetched with others, which cannot be had together")


def _ending() -> RemoteUnavailable:
    return RemoteUnavailable("the mount is ending")
