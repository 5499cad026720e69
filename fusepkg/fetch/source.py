"""The one door to an entry's bytes: cache, then single flight, then the lower cache, then the bucket; verified, kept.

Owns: which piece of a blob is fetched, in which order the tiers are asked, and that one flight of all processes of the
machine fetches it. Must not know: FUSE, paths of a mount, how a cache or a store works inside.

A blob of one chunk (8 MiB) is fetched whole. Of a larger one only the touched chunks are fetched, each checked
against the blob's chunk list, which itself hashes to the entry's own value. Where no chunk list can be had (a large
blob another tool pushed), the blob is fetched whole, checked as it streams by, and served from the cache.

Concurrency: all methods run on one trio thread; store and cache calls that may block run in worker threads under the
limiters below. Between a cache miss and joining a flight there is no checkpoint.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio
from fusepkg_cache.digest import DIGEST_BYTES, chunk_count, chunk_size, combine_chunks
from fusepkg_cache.errors import CacheError

from fusepkg.errors import AccessDenied, CacheFailure, DigestMismatch, ObjectMissing
from fusepkg.fetch.below import Below
from fusepkg.fetch.bucket import Bucket
from fusepkg.fetch.chunks import chunk_spans, is_chunked, nth_digest
from fusepkg.fetch.counters import Counters
from fusepkg.fetch.flights import Flights
from fusepkg.fetch.keeping import Keeper
from fusepkg.fetch.wrong_bytes import mismatch
from fusepkg.model.cache_names import cache_name, list_digest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from fusepkg_cache import Cache, Claim
    from fusepkg_cache.digest import Digest

    from fusepkg.model.entry import Entry
    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.store.protocol import ObjectStore

log = logging.getLogger(__name__)

SMALL_FETCHES = 32
"""Flights of up to ``SMALL_BYTES`` at a time: enough to hide a round trip behind others, few enough for any server."""

LARGE_FETCHES = 4
"""Flights of more than ``SMALL_BYTES`` at a time: a flight holds its bytes until they are in the cache, so both numbers
bound the memory of all flights to some 64 MiB."""

SMALL_BYTES = 1024 * 1024
"""What counts as a small fetch."""

CHUNK_LISTS_KEPT = 256
"""Chunk lists held in memory: a list of a 80 GB blob has 320 KB, most have a few hundred bytes."""

_T = TypeVar("_T")


class BlobSource:
    """Bytes of entries. ``open_cache`` may raise CacheError: then reads go to the bucket until it succeeds later.

    ``chunk_list`` asks the registry (ObjectMissing where it has none), blocking.
    """

    def __init__(
        self,
        open_cache: Callable[[], Cache],
        store_for: Callable[[PhysicalKey], tuple[ObjectStore, str]],
        chunk_list: Callable[[Digest], list[bytes]],
        nursery: trio.Nursery,
    ) -> None:
        self.counters = Counters()
        self._keeper = Keeper(open_cache, self.counters)
        self._below = Below()
        self._bucket = Bucket(store_for, self.counters, SMALL_FETCHES + LARGE_FETCHES)
        self._ask_chunk_list = chunk_list
        self._flights: Flights[bytes] = Flights(nursery)
        self._small = trio.CapacityLimiter(SMALL_FETCHES)
        self._large = trio.CapacityLimiter(LARGE_FETCHES)
        self._chunk_lists: OrderedDict[bytes, bytes] = OrderedDict()
        self._whole: set[Digest] = set()

    def close(self) -> None:
        """Close the cache, once nobody reads any longer."""
        self._keeper.close()

    @property
    def cache(self) -> Cache | None:
        """The open cache; None while it cannot be used."""
        return self._keeper.cache

    # --- reading ---------------------------------------------------------------------------------------------

    def read_cached(self, entry: Entry, offset: int, length: int) -> bytes | None:
        """``length`` bytes from ``offset`` if the cache has all of them, checked; no checkpoint, no network."""
        end = min(offset + length, entry.size)
        if end <= offset:
            return b""
        name = cache_name(entry)
        if not is_chunked(entry) or name in self._whole:
            data = self._keeper.read(name, offset, end - offset)
        else:
            data = self._join_cached_chunks(entry, offset, end)
        if data is None or len(data) != end - offset:  # the manifest may name another size than the blob has
            return None
        self.counters.cache_hits += 1
        self.counters.served_bytes += len(data)
        return data

    async def read(self, entry: Entry, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset`` (fewer at the end of the blob), from the cache or the bucket, verified.

        Raises: RemoteError, DigestMismatch, CacheFailure.
        """
        data = self.read_cached(entry, offset, length)
        if data is not None:
            return data
        self.counters.cache_misses += 1
        end = min(offset + length, entry.size)
        if not is_chunked(entry):
            data = (await self._fetch(entry, cache_name(entry), 0, entry.size, entry.digest))[offset:end]
        else:
            data = await self._read_large(entry, offset, end)
        self.counters.served_bytes += len(data)
        return data

    def cached_chunks(self, entry: Entry) -> tuple[int, int]:
        """How many of the entry's chunks the cache holds, and how many there are. A small blob is one chunk."""
        count = max(1, chunk_count(entry.size))
        if entry.size == 0 or self._keeper.has_in_cache(cache_name(entry)):
            return count, count
        if not is_chunked(entry):
            return 0, 1
        digests = self._known_chunk_list(entry)
        if digests is None:
            return 0, count
        return sum(self._keeper.has_in_cache(nth_digest(digests, index)) for index in range(count)), count

    # --- one fetch of all tasks, threads and processes -------------------------------------------------------

    async def _fetch(self, entry: Entry, name: Digest, offset: int, length: int, expected: Digest) -> bytes:
        """A small blob, or a chunk, which the cache knows as ``name``."""

        async def get(land: Callable[[bytes], None], claim: Claim | None) -> None:
            data = await self._from_below(name, length)
            if data is None:
                data = await self._bucket.get(entry, offset, length, expected)
            land(data)
            await self._keeper.keep(name, data)

        slots = self._small if length <= SMALL_BYTES else self._large
        look = partial(self._look, name, length)
        return await self._flights.join(
            (name, entry.physical_key), lambda land: self._claimed(name, slots, look, get, land)
        )

    async def _claimed(
        self,
        name: Digest,
        slots: trio.CapacityLimiter,
        look: Callable[[], _T | None],
        get: Callable[[Callable[[_T], None], Claim | None], Awaitable[None]],
        land: Callable[[_T], None],
    ) -> None:
        """Let ``get`` land a blob and keep it, unless another process does so first.

        A flight takes a slot for both, so that a network faster than the disk does not pile up in memory what waits
        for the disk; none while another process has the claim.
        """
        with self._keeper.claim(name) as claim:
            while True:
                async with slots:
                    if claim is None or claim.take():
                        found = look()  # kept between our miss and our claim, perhaps
                        if found is None:
                            await get(land, claim)
                            return
                        break
                await trio.sleep(claim.pause_s)
                found = look()
                if found is not None:
                    break
        self.counters.shared_objects += 1
        land(found)

    def _look(self, name: Digest, size: int) -> bytes | None:
        data = self._keeper.get(name) if self._keeper.has(name) else None
        return data if data is not None and len(data) == size else None

    async def _from_below(self, name: Digest, size: int) -> bytes | None:
        lower = self._keeper.cache.lower if self._keeper.cache else None
        if lower is None:
            return None
        data = await self._below.ask(lambda _: lower.read(name, size=size))
        if data is not None:
            self.counters.lower_objects += 1
            self.counters.lower_bytes += size
        return data

    # --- large blobs -----------------------------------------------------------------------------------------

    async def _read_large(self, entry: Entry, offset: int, end: int) -> bytes:
        name = cache_name(entry)
        self._whole.discard(name)
        digests = None if self._keeper.has(name) else await self._chunk_list(entry)
        if digests is None:
            return await self._read_whole(entry, name, offset, end)
        size = chunk_size(entry.size)
        pieces: list[bytes] = []
        for index, low, high in chunk_spans(entry, offset, end):
            digest = nth_digest(digests, index)
            # Most often a miss was counted of it just now: another look is cheaper, and counts nothing.
            piece = self._keeper.read(digest, low, high - low) if self._keeper.has(digest) else None
            if piece is None:
                start = index * size
                chunk = await self._fetch(entry, digest, start, min(size, entry.size - start), digest)
                piece = chunk[low:high]
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _join_cached_chunks(self, entry: Entry, offset: int, end: int) -> bytes | None:
        digests = self._known_chunk_list(entry)
        if digests is None:
            return None
        pieces: list[bytes] = []
        for index, low, high in chunk_spans(entry, offset, end):
            piece = self._keeper.read(nth_digest(digests, index), low, high - low)
            if piece is None:
                return None
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    # --- large blobs without a chunk list --------------------------------------------------------------------

    async def _read_whole(self, entry: Entry, name: Digest, offset: int, end: int) -> bytes:
        """The first read goes to a thread: the cache may have to hash all of the blob first.

        What the cache drops at once, because its bound is smaller, or cannot read from its disk, is fetched again into
        a temporary file.
        """
        for in_cache in (True, False):
            has = self._keeper.has if in_cache else self._keeper.has_file
            if not has(name):
                await self._fetch_whole(entry, name, has, in_cache=in_cache)
            data = await self._bucket.run(entry, lambda: self._keeper.read(name, offset, end - offset))
            if data is not None:
                break
        else:
            raise CacheFailure(
                f"{entry.logical_key}: {entry.size} bytes were fetched but could not be kept to be read from",
                hint="This blob has no chunk list, so it needs room in the cache; see `fusepkg cache info`",
            )
        if len(data) != end - offset:
            raise mismatch(entry)
        self._whole.add(name)
        return data

    async def _fetch_whole(self, entry: Entry, name: Digest, has: Callable[[Digest], bool], *, in_cache: bool) -> None:
        async def get(land: Callable[[bytes], None], claim: Claim | None) -> None:
            try:
                if not await self._whole_from_below(entry, name, claim, in_cache=in_cache):
                    await self._keeper.keep_pieces(
                        name,
                        lambda take: self._bucket.give(entry, lambda pieces: take(_beating(pieces, claim))),
                        in_cache=in_cache,
                    )
            except CacheError as exc:
                failure = CacheFailure(f"{entry.logical_key}: cannot be kept to be read from: {exc}")
                self._bucket.failed(entry, failure)
                raise failure from exc
            land(b"")

        def look() -> bytes | None:
            return b"" if has(name) else None

        await self._flights.join(
            ("whole", name, entry.physical_key, in_cache),
            lambda land: self._claimed(name, self._large, look, get, land),
        )

    async def _whole_from_below(self, entry: Entry, name: Digest, claim: Claim | None, *, in_cache: bool) -> bool:
        lower = self._keeper.cache.lower if self._keeper.cache else None
        if lower is None:
            return False

        async def draw(take: Callable[[Iterable[bytes]], _T]) -> _T | None:
            return await self._below.ask(
                lambda got_on: lower.give(
                    name, lambda _, pieces: take(_beating(pieces, claim, got_on)), size=entry.size
                )
            )

        if not await self._keeper.keep_pieces(name, draw, in_cache=in_cache):
            return False
        self.counters.lower_objects += 1
        self.counters.lower_bytes += entry.size
        return True

    # --- chunk lists -----------------------------------------------------------------------------------------

    def _known_chunk_list(self, entry: Entry) -> bytes | None:
        """The raw digests of the entry's chunks, in order, if this machine has them. Itself a blob of the cache."""
        digests = self._chunk_lists.get(entry.digest.value)
        name = list_digest(entry)
        if digests is None and name is not None:
            digests = self._keeper.get(name)
            if digests is not None:
                self._remember_chunk_list(entry, digests)
        return digests

    async def _chunk_list(self, entry: Entry) -> bytes | None:
        known, name = self._known_chunk_list(entry), list_digest(entry)
        if known is not None or name is None:
            return known
        size = chunk_count(entry.size) * DIGEST_BYTES

        async def get(land: Callable[[bytes], None], claim: Claim | None) -> None:
            digests = await self._from_below(name, size)
            if digests is None:
                digests = await self._bucket.run(entry, lambda: self._get_chunk_list(entry))
                self.counters.chunk_lists += bool(digests)
            land(digests)
            if digests:
                self._remember_chunk_list(entry, digests)
                await self._keeper.keep(name, digests)

        look = partial(self._look, name, size)
        return (await self._flights.join(name, lambda land: self._claimed(name, self._small, look, get, land))) or None

    def _get_chunk_list(self, entry: Entry) -> bytes:
        """The entry's chunk list from the registry; empty where there is none that can be used.

        S3 says 403 of what is not there to those who may not list the bucket, as of public data.
        """
        try:
            chunks = self._ask_chunk_list(entry.digest)
        except (ObjectMissing, AccessDenied, DigestMismatch) as exc:
            log.info("%s has no usable chunk list, so it is fetched whole: %s", entry.logical_key, exc.message)
            return b""
        if combine_chunks(chunks) != entry.digest or len(chunks) != chunk_count(entry.size):
            log.info("%s has a chunk list that does not hash to it, so it is fetched whole", entry.logical_key)
            return b""
        return b"".join(chunks)

    def _remember_chunk_list(self, entry: Entry, digests: bytes) -> None:
        self._chunk_lists[entry.digest.value] = digests
        if len(self._chunk_lists) > CHUNK_LISTS_KEPT:
            self._chunk_lists.popitem(last=False)


def _beating(
    pieces: Iterable[bytes], claim: Claim | None, got_on: Callable[[], None] = lambda: None
) -> Iterator[bytes]:
    """The pieces; whoever waits for them learns that they come."""
    for piece in pieces:
        if claim is not None:
            claim.beat()
        got_on()
        yield piece
