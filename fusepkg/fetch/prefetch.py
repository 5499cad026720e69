"""Fetching what nobody has asked for yet: all of a version, or parts of it, in tree order and behind all readers."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import trio
from fusepkg_cache.digest import chunk_count

from fusepkg.errors import CacheFailure, EntryNotFound, FusepkgError
from fusepkg.fetch.ahead import RANGE_BYTES
from fusepkg.fetch.chunks import is_chunked, nth_digest
from fusepkg.fetch.piece import blob_piece, chunk_piece, whole_piece
from fusepkg.work.walk import place_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from fusepkg.fetch.ahead import Ahead
    from fusepkg.fetch.cache_tier import CacheTier
    from fusepkg.fetch.flight import Flight
    from fusepkg.fetch.in_place import FilesInPlace
    from fusepkg.fetch.packs import PackedAt, VersionPacks
    from fusepkg.fetch.piece import Piece
    from fusepkg.fetch.pipeline import FetchPipeline
    from fusepkg.index.entries import EntryTable
    from fusepkg.model.entry import Entry

log = logging.getLogger(__name__)

BYTES_AT_ONCE, PIECES_AT_ONCE = 64 * 1024 * 1024, 8192
"""Bytes and pieces asked for and not here yet: what the slots hold, and as much again that waits for them."""

GAP_BYTES = 64 * 1024
"""Bytes that are here already and are fetched again, rather than making two requests."""

_ENTRIES_AT_ONCE = 64
"""Entries looked at before others have their turn."""


def numbers_below(entries: EntryTable, path: str) -> range:
    """Return the numbers of the entries at a path or below it; of all for "". Raises EntryNotFound."""
    key = path.strip("/")
    if key in ("", "."):
        return range(len(entries))
    place = place_of(key)

    def first_from(wanted: bytes) -> int:
        return bisect_left(range(len(entries)), wanted, key=lambda at: place_of(entries.logical_key(at)))

    start = first_from(place)
    if start < len(entries) and entries.logical_key(start) == key:
        return range(start, start + 1)
    found = range(first_from(place + b"\0"), first_from(place + b"\1"))
    if not found:
        raise EntryNotFound(f"the package has no {path!r}", hint="`fusepkg ls REF` lists what it has")
    return found


@dataclass(slots=True)
class PrefetchProgress:
    """Entries and bytes that are done (fetched, or here before, or failed), of all; what was fetched of them."""

    files: int = 0
    total_files: int = 0
    bytes: int = 0
    total_bytes: int = 0
    fetched_bytes: int = 0
    failed_files: int = 0
    skipped_files: int = 0
    """Names in a profile that the version does not have, or that cost more than a profile may."""
    is_done: bool = False
    error: FusepkgError | None = None
    """Why it ended before its end, or the first file failed."""

    def as_dict(self) -> dict[str, object]:
        """All of it by name, for programs; the error by its code and message."""
        facts: dict[str, object] = {name: getattr(self, name) for name in self.__slots__ if name != "error"}
        error = self.error
        return facts | {"error": None if error is None else {"code": error.code, "message": error.message}}


@dataclass(slots=True, eq=False)
class _File:
    """An entry some pieces of which are under way."""

    entry: Entry
    left: int = 0
    is_failed: bool = False


@dataclass(slots=True)
class _Gathered:
    """Members of a pack that go into one request, from ``at`` to ``last``."""

    at: PackedAt
    last: int
    members: dict[int, tuple[Piece, _File]]

    def takes(self, at: PackedAt, most_bytes: int) -> bool:
        """Whether a blob goes with those before it, so that they have no more than so many bytes."""
        pack = self.at.pack
        if at.pack is not pack or at.member <= self.last:
            return False
        is_near = pack.offsets[at.member] - pack.end(self.last) <= GAP_BYTES
        return is_near and pack.end(at.member) - pack.offsets[self.at.member] <= most_bytes


class _UnderWay(NamedTuple):
    flight: Flight
    piece: Piece
    file: _File
    is_in_pack: bool


class FetchParts(NamedTuple):
    """The parts of a reader that fetch ahead of it; ``chunk_list`` gives a large blob's, if it has one."""

    pipeline: FetchPipeline
    tier: CacheTier
    ahead: Ahead
    chunk_list: Callable[[Entry], Awaitable[bytes | None]]
    in_place: FilesInPlace | None


class Prefetch:
    """One prefetch. ``rate`` bounds it, in bytes per second."""

    def __init__(
        self, parts: FetchParts, version: VersionPacks, numbers: Sequence[range], rate: int | None = None
    ) -> None:
        self.progress = PrefetchProgress()
        self._pipeline, self._tier, self._ahead, self._chunk_list, self._in_place = parts
        self._version = version
        self._numbers = numbers
        self._rate = rate
        self._range_bytes = RANGE_BYTES if rate is None else min(RANGE_BYTES, rate)
        self._next_s = 0.0
        self._under_way: deque[_UnderWay] = deque()
        self._under_way_bytes = 0
        self._wanted_pieces = self._wanted_bytes = 0
        self._gathered: _Gathered | None = None
        self._scope = trio.CancelScope()

    def stop(self) -> None:
        """End it; what is under way arrives."""
        self._scope.cancel()

    async def run(self) -> None:
        """Fetch all, and wait until it is here. Raises nothing: ``progress`` says what went wrong."""
        progress = self.progress
        try:
            with self._scope:
                if self._version.is_unasked:
                    await self._version.load_table()
                await self._fetch_all()
                await self._flush()
                await self._wait_until(0)
        except FusepkgError as exc:
            progress.error = exc
        except Exception as exc:
            log.exception("prefetching failed, which is a bug in fusepkg")
            progress.error = FusepkgError(f"a bug in fusepkg: {exc!r}", hint="Please report this")
        progress.is_done = True

    async def _fetch_all(self) -> None:
        progress = self.progress
        progress.total_files = sum(map(len, self._numbers))
        progress.total_bytes = await trio.to_thread.run_sync(self._count_bytes, abandon_on_cancel=True)
        for entry, number in self._entries():
            if number % _ENTRIES_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
                self._require_room()
            if await self._is_in_place(entry):
                self._done(_File(entry), entry.size)
            elif is_chunked(entry):
                await self._flush()
                await self._fetch_large(entry)
            else:
                await self._fetch_small(entry, number)

    async def _is_in_place(self, entry: Entry) -> bool:
        """Whether there is nothing to fetch: the object is a file that is read where it lies."""
        return self._in_place is not None and await self._in_place.holds(entry)

    def _count_bytes(self) -> int:
        entries = self._version.entries
        return sum(size for part in self._numbers for size, _ in entries.blobs_between(part.start, part.stop))

    def _entries(self) -> Iterator[tuple[Entry, int]]:
        for part in self._numbers:
            for number, entry in enumerate(self._version.entries.between(part.start, part.stop), part.start):
                yield entry, number

    # --- asking ------------------------------------------------------------------------------------------------

    async def _fetch_small(self, entry: Entry, number: int) -> None:
        piece = blob_piece(entry)
        if not entry.size or self._tier.has(piece.name):
            self._done(_File(entry), entry.size)
            return
        file = _File(entry, left=1)
        at = self._version.find(number) if self._version.has_packs else None
        if self._gathered is not None and (at is None or not self._gathered.takes(at, self._range_bytes)):
            await self._flush()
        if at is None:
            await self._want(piece, file)
            return
        if self._gathered is None:
            self._gathered = _Gathered(at, at.member, {})
        self._gathered.members[at.member] = piece, file
        self._gathered.last = at.member

    async def _fetch_large(self, entry: Entry) -> None:
        file, name = _File(entry), whole_piece(entry, in_cache=True)
        if self._tier.has(name.name):
            self._done(file, entry.size)
            return
        digests = await self._chunk_list(entry)
        if digests is None:
            file.left = 1
            await self._want(name, file)
            return
        pieces = [chunk_piece(entry, digests, index) for index in range(chunk_count(entry.size))]
        missing = [index for index in range(len(pieces)) if not self._tier.has(nth_digest(digests, index))]
        file.left = len(missing)
        self._done(file, entry.size - sum(pieces[index].length for index in missing))
        for index in missing:
            await self._want(pieces[index], file)

    async def _fetch_chunk(self, entry: Entry, index: int) -> bool:
        """Fetch one chunk of a large blob; False without a chunk list, without which there are none."""
        digests = await self._chunk_list(entry)
        if digests is None:
            return False
        file, piece = _File(entry), chunk_piece(entry, digests, index)
        if self._tier.has(whole_piece(entry, in_cache=True).name) or self._tier.has(piece.name):
            self._done(file, piece.length)
        else:
            file.left = 1
            await self._want(piece, file)
        return True

    async def _want(self, piece: Piece, file: _File) -> None:
        await self._pace(piece.length)
        self._add(piece, file)
        await self._wait_until(BYTES_AT_ONCE)

    async def _flush(self) -> None:
        """Ask for what has been gathered of a pack."""
        gathered, self._gathered = self._gathered, None
        if gathered is None:
            return
        await self._pace(sum(piece.length for piece, _ in gathered.members.values()))
        pieces = {member: piece for member, (piece, _) in gathered.members.items()}
        self._ahead.fetch(self._version, gathered.at, pieces, is_guess=False)
        for piece, file in gathered.members.values():
            self._add(piece, file, is_in_pack=True)
        await self._wait_until(BYTES_AT_ONCE)

    async def _pace(self, size: int) -> None:
        """Wait until ``size`` bytes more are within the rate."""
        if self._rate:
            now = trio.current_time()
            self._next_s = max(self._next_s, now)
            await trio.sleep_until(self._next_s)
            self._next_s += size / self._rate

    def _require_room(self) -> None:
        if self._tier.is_tight:
            raise CacheFailure(
                "Nothing more is prefetched: the cache cannot be used, or is too small to keep what it gets",
                hint="`fusepkg cache info` shows its bounds; --cache-size sets one",
            )

    # --- what comes of it --------------------------------------------------------------------------------------

    def _add(self, piece: Piece, file: _File, *, is_in_pack: bool = False) -> None:
        flight = self._pipeline.want(piece, background=True)
        self._under_way.append(_UnderWay(flight, piece, file, is_in_pack))
        self._under_way_bytes += piece.length
        self._wanted_pieces += 1
        self._wanted_bytes += piece.length

    async def _wait_until(self, most_bytes: int) -> None:
        """Wait until no more than so many bytes, and pieces, are under way."""
        while self._under_way:
            first = self._under_way[0]
            is_full = self._under_way_bytes > most_bytes or len(self._under_way) > PIECES_AT_ONCE
            if not is_full and not first.flight.landed.is_set():
                return
            self._under_way.popleft()
            flight = first.flight
            await flight.landed.wait()
            if flight.error is not None and first.is_in_pack:  # its object may be right
                flight = self._pipeline.want(first.piece, background=True)
                await flight.landed.wait()
            self._under_way_bytes -= first.piece.length
            self._landed(flight, first.piece, first.file)

    def _landed(self, flight: Flight, piece: Piece, file: _File) -> None:
        file.left -= 1
        if flight.error is None:
            self.progress.fetched_bytes += piece.length
        else:
            self.progress.failed_files += not file.is_failed
            file.is_failed = True
            self.progress.error = self.progress.error or flight.error
        self._done(file, piece.length)

    def _done(self, file: _File, size: int) -> None:
        self.progress.bytes += size
        self.progress.files += file.left == 0
