"""Fetching as an access profile says: in its order, behind all readers, and no further ahead of them than a bound.

Nothing in a profile is trusted. It can only name files of the version that is mounted, each is fetched once, and what
is fetched may be ``LEAD_BYTES`` and ``LEAD_PIECES`` more than what the mount has served since: that is what a wrong
profile costs.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

import trio
from fusepkg_cache.digest import chunk_size

from fusepkg.fetch.chunks import is_chunked
from fusepkg.fetch.prefetch import Prefetch
from fusepkg.work.walk import place_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fusepkg.fetch.counters import Counters
    from fusepkg.fetch.packs import VersionPacks
    from fusepkg.fetch.prefetch import FetchParts
    from fusepkg.index.entries import EntryTable
    from fusepkg.model.access_profile import AccessProfile, FirstRead
    from fusepkg.model.entry import Entry

LEAD_BYTES, LEAD_PIECES = 1024**3, 16_384
"""Bytes and pieces that may be fetched before the mount's programs have read as many."""

FIRST_WINDOW, LARGEST_WINDOW = 64, 4_096
"""Reads looked at together, doubled each time: within a window what lies beside each other in a pack comes in one
request, and the first reads of a program must not wait for a large one."""

PAUSE_S = 0.5
"""Between two looks at whether readers have caught up."""

PATIENCE_S = 600.0
"""After so long without a read of the mount, a replay that waits for readers ends."""


class FoundRead(NamedTuple):
    """A read of a profile in a version: all of a small file, one chunk of a large one."""

    number: int
    entry: Entry
    chunk: int


class Replay(Prefetch):
    """One replay."""

    def __init__(self, parts: FetchParts, version: VersionPacks, profile: AccessProfile, counters: Counters) -> None:
        super().__init__(parts, version, ())
        self._profile = profile
        self._counters = counters
        self._bytes_before, self._reads_before = counters.served_bytes, self._reads()
        self._done_before: set[tuple[int, int]] = set()

    def _reads(self) -> int:
        return self._counters.cache_hits + self._counters.in_place_reads + self._counters.cache_misses

    async def _fetch_all(self) -> None:
        self.progress.total_files = self._profile.header.reads
        reads, size = self._profile.reads(), FIRST_WINDOW
        while window := list(islice(reads, size)):
            found, missing = await trio.to_thread.run_sync(
                find_reads, self._version.entries, window, abandon_on_cancel=True
            )
            self._skipped(missing)
            for read in found:
                self._require_room()
                if not await self._readers_are_near():
                    return
                await self._fetch_once(read)
            await self._flush()
            size = min(2 * size, LARGEST_WINDOW)

    async def _fetch_once(self, read: FoundRead) -> None:
        before = len(self._done_before)
        self._done_before.add((read.number, read.chunk))
        if len(self._done_before) == before or await self._is_in_place(read.entry):
            self.progress.files += 1
        elif not is_chunked(read.entry):
            await self._fetch_small(read.entry, read.number)
        else:
            await self._flush()
            if not await self._fetch_chunk(read.entry, read.chunk):
                self._skipped(1)  # it could be fetched only as a whole

    def _skipped(self, count: int) -> None:
        self.progress.files += count
        self.progress.skipped_files += count

    async def _readers_are_near(self) -> bool:
        """Wait until readers have caught up; False if they do not come."""
        waited_s, reads = 0.0, self._reads()
        while (
            self._wanted_bytes > LEAD_BYTES + self._counters.served_bytes - self._bytes_before
            or self._wanted_pieces > LEAD_PIECES + self._reads() - self._reads_before
        ):
            await trio.sleep(PAUSE_S)
            waited_s = waited_s + PAUSE_S if reads == self._reads() else 0.0
            reads = self._reads()
            if waited_s >= PATIENCE_S:
                return False
        return True


def find_reads(entries: EntryTable, reads: Iterable[FirstRead]) -> tuple[list[FoundRead], int]:
    """Return those reads that a version has, in tree order, and how many it does not have."""
    found: list[FoundRead] = []
    missing, number = 0, 0
    for place, read in sorted(((place_of(read.path), read) for read in reads), key=itemgetter(0)):
        number = _first_from(entries, place, number)
        entry = entries.entry(number) if number < len(entries) else None
        if entry is None or entry.logical_key != read.path or read.offset >= max(1, entry.size):
            missing += 1
        else:
            found.append(FoundRead(number, entry, read.offset // chunk_size(entry.size)))
    return sorted(found, key=itemgetter(0, 2)), missing


def _first_from(entries: EntryTable, place: bytes, start: int) -> int:
    """Return the number of the first entry at or behind a place, none of those before ``start`` being so far."""
    for number in range(start, min(start + 2, len(entries))):  # most often the next one
        if place_of(entries.logical_key(number)) >= place:
            return number
    return bisect_left(
        range(len(entries)), place, lo=min(start, len(entries)), key=lambda at: place_of(entries.logical_key(at))
    )
