"""The one door to an entry's bytes: cache, then single flight, then the bucket; verified, then kept.

Owns: which piece of a blob is fetched, its verification, and what is counted. Must not know: FUSE, paths of a mount,
how a cache or a store works inside.

A blob of one chunk (8 MiB) is fetched whole. Of a larger one only the touched chunks are fetched, each checked
against the blob's chunk list, which itself hashes to the entry's own value. Where no chunk list can be had (a large
blob another tool pushed), the blob is fetched whole, checked as it streams by, and served from the cache.

Concurrency: all methods run on one trio thread; store and cache calls that may block run in worker threads under the
limiters below. Between a cache miss and joining a flight there is no checkpoint.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING

import trio
from fusepkg_cache.digest import (
    Digest,
    chunk_count,
    chunk_size,
    combine_chunks,
    compute_digest,
)
from fusepkg_cache.errors import CacheError
from fusepkg_cache.errors import DigestMismatch as WrongBytes

from fusepkg.errors import AccessDenied, CacheFailure, DigestMismatch, FusepkgError, ObjectMissing
from fusepkg.fetch.chunks import chunk_spans, is_chunked, list_digest, nth_digest
from fusepkg.fetch.counters import Counters
from fusepkg.fetch.flights import Flights
from fusepkg.fetch.keeping import Keeper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fusepkg_cache import Cache

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

MISMATCH_TRIES = 2
"""Fetches of an object whose bytes are wrong, before giving up: the damage may lie in the transfer."""


class BlobSource:
    """Bytes of entries. ``chunk_list`` asks the registry (ObjectMissing where it has none), blocking."""

    def __init__(
        self,
        cache: Cache,
        store_for: Callable[[PhysicalKey], tuple[ObjectStore, str]],
        chunk_list: Callable[[Digest], list[bytes]],
        nursery: trio.Nursery,
    ) -> None:
        self.counters = Counters()
        self._keeper = Keeper(cache, self.counters)
        self._store_for = store_for
        self._ask_chunk_list = chunk_list
        self._flights: Flights[bytes] = Flights(nursery)
        self._small = trio.CapacityLimiter(SMALL_FETCHES)
        self._large = trio.CapacityLimiter(LARGE_FETCHES)
        self._threads = trio.CapacityLimiter(SMALL_FETCHES + LARGE_FETCHES)
        self._chunk_lists: OrderedDict[bytes, bytes] = OrderedDict()
        self._whole: set[Digest] = set()

    # --- reading ---------------------------------------------------------------------------------------------

    def read_cached(self, entry: Entry, offset: int, length: int) -> bytes | None:
        """``length`` bytes from ``offset`` if the cache has all of them, checked; no checkpoint, no network."""
        end = min(offset + length, entry.size)
        if end <= offset:
            return b""
        if not is_chunked(entry) or entry.digest in self._whole:
            data = self._keeper.read(entry.digest, offset, end - offset)
        else:
            data = self._join_cached_chunks(entry, offset, end)
        if data is not None:
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
            data = (await self._fetch_small(entry))[offset:end]
        else:
            data = await self._read_large(entry, offset, end)
        self.counters.served_bytes += len(data)
        return data

    def cached_chunks(self, entry: Entry) -> tuple[int, int]:
        """How many of the entry's chunks the cache holds, and how many there are. A small blob is one chunk."""
        count = max(1, chunk_count(entry.size))
        if entry.size == 0 or entry.digest in self._keeper.cache:
            return count, count
        if not is_chunked(entry):
            return 0, 1
        digests = self._known_chunk_list(entry)
        if digests is None:
            return 0, count
        return sum(nth_digest(digests, index) in self._keeper.cache for index in range(count)), count

    # --- small blobs -----------------------------------------------------------------------------------------

    async def _fetch_small(self, entry: Entry) -> bytes:
        async def fetch() -> bytes:
            return await self._get(entry, 0, entry.size, entry.digest)

        async def keep(data: bytes) -> None:
            await self._keeper.keep(entry.digest, data)

        return await self._flights.join((entry.digest, entry.physical_key), self._slots(entry.size), fetch, keep)

    # --- large blobs -----------------------------------------------------------------------------------------

    async def _read_large(self, entry: Entry, offset: int, end: int) -> bytes:
        """Where the blob is kept whole, the first read goes to a thread: the cache may have to hash all of it first."""
        self._whole.discard(entry.digest)
        digests = None if entry.digest in self._keeper.cache else await self._chunk_list(entry)
        if digests is None:
            if entry.digest not in self._keeper.cache:
                await self._fetch_whole(entry)
            data = await self._blocking(entry, lambda: self._read_whole(entry, offset, end - offset))
            self._whole.add(entry.digest)
            return data
        pieces: list[bytes] = []
        for index, low, high in chunk_spans(entry, offset, end):
            digest = nth_digest(digests, index)
            piece = self._keeper.read(digest, low, high - low)
            if piece is None:
                piece = (await self._fetch_chunk(entry, index, digest))[low:high]
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

    async def _fetch_chunk(self, entry: Entry, index: int, digest: Digest) -> bytes:
        size = chunk_size(entry.size)
        start = index * size

        async def fetch() -> bytes:
            return await self._get(entry, start, min(size, entry.size - start), digest)

        async def keep(data: bytes) -> None:
            await self._keeper.keep(digest, data)

        return await self._flights.join((digest, entry.physical_key), self._slots(size), fetch, keep)

    async def _fetch_whole(self, entry: Entry) -> None:
        """Stream a large blob without a chunk list into the cache, which verifies it before it can be read."""
        store, key = self._store_for(entry.physical_key)
        pieces = store.stream(key, version=entry.physical_key.version, piece_bytes=chunk_size(entry.size))

        async def fetch() -> bytes:
            await self._blocking(entry, lambda: self._stream_into_cache(entry, pieces))
            self.counters.fetched_objects += 1
            self.counters.fetched_bytes += entry.size
            return b""

        async def keep(_: bytes) -> None:
            await trio.lowlevel.checkpoint()

        await self._flights.join(("whole", entry.digest, entry.physical_key), self._large, fetch, keep)

    def _stream_into_cache(self, entry: Entry, pieces: Iterator[bytes]) -> bytes:
        try:
            self._keeper.cache.put_pieces(entry.digest, pieces)
        except WrongBytes as exc:
            raise _mismatch(entry) from exc
        except CacheError as exc:
            raise CacheFailure(f"{entry.logical_key}: cannot be kept in the cache: {exc}") from exc
        if self._keeper.cache.read(entry.digest, entry.size - 1, 2) is None:
            raise _mismatch(entry)
        return b""

    def _read_whole(self, entry: Entry, offset: int, length: int) -> bytes:
        data = self._keeper.cache.read(entry.digest, offset, length)
        if data is None:
            raise CacheFailure(
                f"{entry.logical_key}: {entry.size} bytes were fetched but could not be kept to be read from",
                hint="This blob has no chunk list, so it needs room in the cache; see `fusepkg cache info`",
            )
        if len(data) != length:
            raise _mismatch(entry)
        return data

    # --- chunk lists -----------------------------------------------------------------------------------------

    def _known_chunk_list(self, entry: Entry) -> bytes | None:
        """The raw digests of the entry's chunks, in order, if this machine has them. Itself a blob of the cache."""
        digests = self._chunk_lists.get(entry.digest.value)
        name = list_digest(entry)
        if digests is None and name is not None:
            digests = self._keeper.cache.get(name)
            if digests is not None:
                self._remember_chunk_list(entry, digests)
        return digests

    async def _chunk_list(self, entry: Entry) -> bytes | None:
        known, name = self._known_chunk_list(entry), list_digest(entry)
        if known is not None or name is None:
            return known

        async def fetch() -> bytes:
            digests = await self._blocking(entry, lambda: self._get_chunk_list(entry))
            self.counters.chunk_lists += bool(digests)
            return digests

        async def keep(digests: bytes) -> None:
            if digests:
                self._remember_chunk_list(entry, digests)
                await self._keeper.keep(name, digests)

        return await self._flights.join(name, self._small, fetch, keep) or None

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

    # --- the bucket and the cache ----------------------------------------------------------------------------

    async def _get(self, entry: Entry, offset: int, length: int, expected: Digest) -> bytes:
        store, key = self._store_for(entry.physical_key)
        version = entry.physical_key.version

        def get() -> bytes:
            # A range, for whole blobs too: an object that somebody replaced by a huge one must not fill the memory. One
            # byte more than the blob has tells such an object from the right one.
            for attempt in range(1, MISMATCH_TRIES + 1):
                data = store.get(key, version=version, offset=offset, length=length + (length == entry.size))
                if len(data) == length and compute_digest(expected.algorithm, data) == expected:
                    return data
                if attempt < MISMATCH_TRIES:
                    log.warning("%s: wrong bytes from %s, fetching again", entry.logical_key, entry.physical_key)
            raise _mismatch(entry)

        data = await self._blocking(entry, get)
        self.counters.fetched_objects += 1
        self.counters.fetched_bytes += len(data)
        return data

    def _slots(self, size: int) -> trio.CapacityLimiter:
        return self._small if size <= SMALL_BYTES else self._large

    async def _blocking(self, entry: Entry, call: Callable[[], bytes]) -> bytes:
        """Run a fetch in a thread; a failure is counted, and logged once with the names of entry and object.

        A mount that ends does not wait for a bucket that does not answer: the thread is left to its timeout.
        """
        try:
            return await trio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._threads)
        except FusepkgError as exc:
            self.counters.failed_fetches += 1
            self.counters.digest_mismatches += isinstance(exc, DigestMismatch)
            log.error("cannot read %s (%s): %s", entry.logical_key, entry.physical_key, exc)
            raise


def _mismatch(entry: Entry) -> DigestMismatch:
    return DigestMismatch(
        f"{entry.physical_key} does not hold the {entry.size} bytes that the manifest names as {entry.digest}",
        hint="The object was changed, truncated or replaced; restore it, or push the file again",
    )
