"""Read parts of entries, verified: from the cache, or fetched through the pipeline piece by piece.

A blob of one chunk (8 MiB) is fetched whole. Of a larger one only the touched chunks are fetched, each checked against
the blob's chunk list, which itself hashes to the entry's own value; and only blocks of them (64 KiB) for readers who
jump, where the publisher wrote their hashes (``fetch.blocks``). If no chunk list can be had (a large blob
another tool pushed), the blob is fetched whole, checked as it streams by, and served from the cache.

All methods run on one trio thread.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import trio
from fusepkg_cache.digest import chunk_count

from fusepkg.errors import CacheFailure
from fusepkg.fetch.ahead import Ahead
from fusepkg.fetch.blocks import BlockReads
from fusepkg.fetch.cache_tier import CacheTier
from fusepkg.fetch.cached import Watched
from fusepkg.fetch.chunks import chunk_spans, is_chunked, nth_digest
from fusepkg.fetch.counters import Counters
from fusepkg.fetch.in_place import FilesInPlace
from fusepkg.fetch.piece import blob_piece, chunk_piece, list_piece, whole_piece
from fusepkg.fetch.pipeline import FetchPipeline
from fusepkg.fetch.prefetch import FetchParts, Prefetch
from fusepkg.fetch.readahead import MAX_AHEAD, Readahead
from fusepkg.fetch.replay import Replay
from fusepkg.fetch.retries import RETRY_TIMEOUT_S
from fusepkg.fetch.verified import expected_object, mismatch
from fusepkg.fetch.waits import Waits
from fusepkg.model.cache_names import cache_name, list_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fusepkg_cache import Cache
    from fusepkg_cache.digest import Digest

    from fusepkg.fetch.chunks import Span
    from fusepkg.fetch.first_reads import FirstReads
    from fusepkg.fetch.flight import Flight
    from fusepkg.fetch.packs import VersionPacks
    from fusepkg.model.access_profile import AccessProfile
    from fusepkg.model.entry import Entry
    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.store.protocol import ObjectStore


class _ChunkRead(NamedTuple):
    """A part of a chunk: its bytes if they were here, or else the flight of the chunk."""

    span: Span
    digest: Digest
    found: bytes | None
    flight: Flight | None


CHUNK_LISTS_KEPT = 256
"""Chunk lists held in memory: a list of a 80 GB blob has 320 KB, most have a few hundred bytes."""


class EntryReader:
    """Reads of entries. ``open_cache`` may raise CacheError: then reads go to the bucket until it succeeds later.

    ``chunk_list`` asks the registry (ObjectMissing where it has none), blocking. ``note_damaged`` hears of objects that
    are missing or wrong, in any thread; ``elsewhere`` may say where the bytes of such a one lie now, blocking.
    ``block_list`` tells where the list of block hashes with a root lies, if there are any.
    ``versions`` are those that are being read: what lies beside each other in one may be fetched together.
    """

    def __init__(
        self,
        open_cache: Callable[[], Cache],
        store_for: Callable[[PhysicalKey], tuple[ObjectStore, str]],
        chunk_list: Callable[[Digest], list[bytes]],
        nursery: trio.Nursery,
        *,
        retry_timeout_s: float = RETRY_TIMEOUT_S,
        note_damaged: Callable[[PhysicalKey], None] = lambda _: None,
        elsewhere: Callable[[Entry], PhysicalKey | None] = lambda _: None,
        versions: Callable[[], Sequence[VersionPacks]] = lambda: (),
        block_list: Callable[[Digest], PhysicalKey] | None = None,
        copy_local: bool = True,
    ) -> None:
        self.counters = Counters()
        self._tier = CacheTier(open_cache, self.counters)
        self._pipeline = FetchPipeline(
            self._tier,
            self.counters,
            store_for,
            chunk_list,
            nursery,
            retry_timeout_s=retry_timeout_s,
            note_damaged=note_damaged,
            elsewhere=elsewhere,
        )
        self._ahead = Ahead(self._pipeline, self._tier, self.counters, nursery, versions)
        self._readahead = Readahead()
        self._in_place = None if copy_local else FilesInPlace(store_for, self._chunk_list)
        self._blocks = None if block_list is None else BlockReads(self._pipeline, self._tier, block_list)
        self.waits = Waits()
        self._chunk_lists: OrderedDict[bytes, bytes] = OrderedDict()
        self._whole: set[Digest] = set()
        self._first_reads: FirstReads | None = None
        self.on_watched: Callable[[int], None] = lambda _: None
        """Hears ``watched`` when a record begins or ends."""

    def note_first_reads(self, first_reads: FirstReads | None) -> None:
        """Note there what is read from now on, for a profile; None: no more."""
        self._first_reads = first_reads
        self.on_watched(self.watched)

    def let_others_read(self) -> None:
        """Hold nothing in memory that the cache has: other processes read it there."""
        self._tier.is_read_by_others = True

    def forget_versions(self) -> None:
        """Keep nothing of the versions that were read; those that still are will be noted again."""
        self._ahead.forget()
        self._tier.forget_unread()

    def prefetch(self, version: VersionPacks, numbers: Sequence[range], rate: int | None = None) -> Prefetch:
        """Return what fetches the entries with these numbers, behind all readers, once it is run."""
        return Prefetch(self._parts(), version, numbers, rate)

    def replay(self, version: VersionPacks, profile: AccessProfile) -> Prefetch:
        """Return what fetches as a profile says, behind all readers and not far before them, once it is run."""
        return Replay(self._parts(), version, profile, self.counters)

    def _parts(self) -> FetchParts:
        return FetchParts(self._pipeline, self._tier, self._ahead, self._chunk_list, self._in_place)

    async def wait_until_kept(self) -> None:
        """Wait until all that has arrived is in the cache, or refused by it."""
        await self._pipeline.wait_until_kept()

    def close(self) -> None:
        """Close the cache, after the last read."""
        self._pipeline.close()
        self._tier.close()

    @property
    def cache(self) -> Cache | None:
        """The open cache; None while it cannot be used."""
        return self._tier.cache

    @property
    def under_way(self) -> int:
        """How many pieces are being fetched or kept."""
        return self._pipeline.under_way

    # --- reading ---------------------------------------------------------------------------------------------

    def read_cached(self, entry: Entry, offset: int, length: int) -> bytes | None:
        """Return ``length`` bytes from ``offset`` if the cache has all of them, checked; no checkpoint, no network."""
        end = min(offset + length, entry.size)
        if end <= offset:
            return b""
        name = cache_name(entry)
        if not is_chunked(entry) or name in self._whole:
            data = self._tier.read(name, offset, end - offset)
        else:
            data = self._join_cached_chunks(entry, offset, end)
        if data is None or len(data) != end - offset:  # the manifest may name another size than the blob has
            return None
        if self._ahead.is_watching:
            self._ahead.used(entry)
        self.counters.cache_hits += 1
        self.counters.served_bytes += len(data)
        return data

    def read_at_once(self, entry: Entry, offset: int, length: int) -> bytes | None:
        """The same, and start to fetch what a reader in order will want next; no checkpoint."""
        self._note_first(entry, offset, length)
        data = self.read_cached(entry, offset, length)
        if data and is_chunked(entry):
            self._read_ahead(entry, offset, offset + len(data))
        return data

    def _note_first(self, entry: Entry, offset: int, length: int) -> None:
        end = min(offset + length, entry.size)
        if self._first_reads is not None and end > offset:
            self._first_reads.note(entry, offset, end)

    def note_read(self, entry: Entry, offset: int, length: int) -> None:
        """Note that another process has answered a read out of the cache. No checkpoint."""
        if is_chunked(entry):
            self._read_ahead(entry, offset, min(offset + length, entry.size))
        else:
            self._ahead.used(entry)

    @property
    def watched(self) -> Watched:
        """What this process has to hear of reads that others could answer."""
        if self._first_reads is not None:
            return Watched.ALL
        return Watched.SMALL if self._ahead.is_watching else Watched.LARGE

    async def read(self, entry: Entry, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset`` (fewer at the blob's end), from cache or bucket, verified.

        Raises: RemoteError, DigestMismatch, CacheFailure.
        """
        if self._in_place is not None and entry.size and offset < entry.size:
            self._note_first(entry, offset, length)
            data = await self._in_place.read(entry, offset, min(offset + length, entry.size))
            if data is not None:
                self.counters.in_place_reads += 1
                self.counters.in_place_bytes += len(data)
                self.counters.served_bytes += len(data)
                return data
        data = self.read_at_once(entry, offset, length)
        if data is not None:
            return data
        end = min(offset + length, entry.size)
        self.counters.cache_misses += 1
        began = time.monotonic()
        try:
            if not is_chunked(entry):
                self._ahead.missed(entry)
                data = (await self._pipeline.want(blob_piece(entry)).wait())[offset:end]
            else:
                data = await self._read_large(entry, offset, end)
        finally:
            self.waits.add(time.monotonic() - began)
        self.counters.served_bytes += len(data)
        return data

    def cached_chunks(self, entry: Entry) -> tuple[int, int]:
        """Return how many of the entry's chunks the cache holds, and how many there are. A small blob is one chunk."""
        chunks = max(1, chunk_count(entry.size))
        if entry.size == 0 or self._tier.has_in_cache(cache_name(entry)):
            return chunks, chunks
        if self._in_place is not None and self._in_place.has(entry):
            return chunks, chunks
        if not is_chunked(entry):
            return 0, 1
        digests = self._known_chunk_list(entry)
        if digests is None:
            return 0, chunks
        return sum(self._tier.has_in_cache(nth_digest(digests, index)) for index in range(chunks)), chunks

    # --- large blobs -----------------------------------------------------------------------------------------

    async def _read_large(self, entry: Entry, offset: int, end: int) -> bytes:
        name = cache_name(entry)
        self._whole.discard(name)
        if self._tier.has(name):
            return await self._read_whole(entry, name, offset, end)
        spans = list(chunk_spans(entry, offset, end))
        by_blocks = self._spans_by_blocks(entry, spans)
        chunks = await self._begin_chunks(entry, [span for span in spans if span not in by_blocks])
        parts: dict[int, bytes] = {}
        if chunks is not None and by_blocks and self._blocks is not None:
            parts = await self._blocks.read(entry, by_blocks)
            more = await self._begin_chunks(entry, [span for span in by_blocks if span.chunk not in parts])
            chunks = None if more is None else chunks + more
        if chunks is None:
            return await self._read_whole(entry, name, offset, end)
        self._read_ahead(entry, offset, end)
        for chunk in chunks:
            parts[chunk.span.chunk] = await self._chunk_part(chunk)
        return parts[spans[0].chunk] if len(spans) == 1 else b"".join(parts[span.chunk] for span in spans)

    def _spans_by_blocks(self, entry: Entry, spans: list[Span]) -> list[Span]:
        """Return the spans to be read by blocks: none whose chunk is here, or comes."""
        if self._blocks is None:
            return []
        digests = self._known_chunk_list(entry)
        chosen = self._blocks.choose(entry, spans, has_chunk_list=digests is not None)
        if digests is None:
            return chosen
        pieces = {span: chunk_piece(entry, digests, span.chunk) for span in chosen}
        return [
            span
            for span, piece in pieces.items()
            if not self._tier.has(piece.name) and not self._pipeline.is_wanted(piece)
        ]

    async def _begin_chunks(self, entry: Entry, spans: list[Span]) -> list[_ChunkRead] | None:
        """Begin to fetch the chunks of spans that are not here; None if they are to be read of the whole blob."""
        if not spans:
            return []
        digests = await self._chunk_list(entry)
        if digests is None:
            return None
        chunks = []
        for span in spans:
            digest, length = nth_digest(digests, span.chunk), span.high - span.low
            # Most often a miss was counted of it just now: another look is cheaper, and counts nothing.
            found = self._tier.read(digest, span.low, length) if self._tier.has(digest) else None
            flight = self._pipeline.want(chunk_piece(entry, digests, span.chunk)) if found is None else None
            chunks.append(_ChunkRead(span, digest, found, flight))
        return chunks

    async def _chunk_part(self, chunk: _ChunkRead) -> bytes:
        found, (_, low, high) = chunk.found, chunk.span
        if chunk.flight is not None:
            data = await chunk.flight.wait()
            found = self._tier.read_held(chunk.digest, low, high - low) or data[low:high]
        assert found is not None, "what was not found is fetched"
        return found

    def _join_cached_chunks(self, entry: Entry, offset: int, end: int) -> bytes | None:
        digests = self._known_chunk_list(entry)
        if digests is None and self._blocks is None:
            return None
        parts: list[bytes] = []
        for span in chunk_spans(entry, offset, end):
            index, low, high = span
            part = None if digests is None else self._tier.read(nth_digest(digests, index), low, high - low)
            if part is None and self._blocks is not None:
                part = self._blocks.read_cached(entry, span)
            if part is None:
                return None
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_ahead(self, entry: Entry, offset: int, end: int) -> None:
        """Start to fetch the chunks that a reader who goes on in order will ask for next."""
        ahead = self._readahead.note(entry, offset, end, MAX_AHEAD if not self._tier.is_tight else 1)
        if not ahead or not self._tier.has_room_ahead:
            return
        digests = self._known_chunk_list(entry)
        if digests is None:
            return
        for index in ahead:
            if not self._tier.has(nth_digest(digests, index)):
                self._pipeline.want(chunk_piece(entry, digests, index), background=True)

    # --- large blobs without a chunk list --------------------------------------------------------------------

    async def _read_whole(self, entry: Entry, name: Digest, offset: int, end: int) -> bytes:
        """Read a blob that is kept whole, fetched before if it is not.

        The first read goes to a thread: the cache may have to hash all of the blob first. What the cache drops at once,
        because its bound is smaller, or cannot read from its disk, is fetched again into a temporary file.
        """
        for in_cache in (True, False):
            has = self._tier.has if in_cache else self._tier.has_file
            if not has(name):
                await self._pipeline.want(whole_piece(entry, in_cache=in_cache)).wait()
            data = await trio.to_thread.run_sync(self._tier.read, name, offset, end - offset, abandon_on_cancel=True)
            if data is not None:
                break
        else:
            raise CacheFailure(
                f"{entry.logical_key}: {entry.size} bytes were fetched but could not be kept to be read from",
                hint="This blob has no chunk list, so it needs room in the cache; see `fusepkg cache info`",
            )
        if len(data) != end - offset:
            raise mismatch(expected_object(entry))
        self._whole.add(name)
        return data

    # --- chunk lists -----------------------------------------------------------------------------------------

    def _known_chunk_list(self, entry: Entry) -> bytes | None:
        """Return the raw digests of the entry's chunks, in order, if this machine has them."""
        digests = self._chunk_lists.get(entry.digest.value)
        name = list_digest(entry)
        if digests is None and name is not None:
            digests = self._tier.get(name)
            if digests is not None:
                self._remember_chunk_list(entry, digests)
        return digests

    async def _chunk_list(self, entry: Entry) -> bytes | None:
        known, piece = self._known_chunk_list(entry), list_piece(entry)
        if known is not None or piece is None:
            return known
        digests = await self._pipeline.want(piece).wait()
        if not digests:
            return None
        self._remember_chunk_list(entry, digests)
        return digests

    def _remember_chunk_list(self, entry: Entry, digests: bytes) -> None:
        self._chunk_lists[entry.digest.value] = digests
        if len(self._chunk_lists) > CHUNK_LISTS_KEPT:
            self._chunk_lists.popitem(last=False)
