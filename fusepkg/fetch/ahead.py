"""Small blobs fetched before they are asked for: a neighbourhood in a pack, or the next ones of a directory.

The limit grows with what was read: for each byte read, up to ``CREDIT`` bytes may be cached ahead and unread. So
scattered reads fetch at most ``CREDIT`` + 1 times the bytes they need, sequential reads soon fetch ``RANGE_BYTES`` at a
time, and a program that reads everything in random order has all of it cached after a seventh.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg.errors import FusepkgError
from fusepkg.fetch.piece import Kind, Piece, blob_piece
from fusepkg.fetch.slots import SMALL_BYTES
from fusepkg.packs.pack import BELOW_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import trio
    from fusepkg_cache.digest import Digest

    from fusepkg.fetch.cache_tier import CacheTier
    from fusepkg.fetch.counters import Counters
    from fusepkg.fetch.packs import PackedAt, PackPlaces, VersionPacks
    from fusepkg.fetch.pipeline import FetchPipeline
    from fusepkg.model.entry import Entry

log = logging.getLogger(__name__)

RANGE_BYTES = 4 * 1024 * 1024
"""The largest range of a pack in one request. Larger ranges would not save time: transfer dominates the round trip."""

CREDIT = 6
"""Bytes fetched ahead and not read yet, for each byte read."""

GIVE_UP_BYTES, GIVE_UP_PART = 256 * 1024 * 1024, 32
"""Stop fetching ahead when more than GIVE_UP_BYTES are unread and less than 1/GIVE_UP_PART of what was fetched ahead
has been read: the program reads sparsely."""

FEWEST_MISSING = 4
"""Double a range only if at least one in four of the blobs that this adds is not cached."""

LOOKED_AT, LOOK_EVERY = 32, 16
"""After 32 members of a pack in a row that are not cached, look up only every 16th."""

REMEMBERED = 100_000
"""How many unread blobs are tracked. The oldest are dropped, and then count as never read."""

NEAR, IN_ORDER = 16, 12
"""Without packs, fetch the next entries once ``IN_ORDER`` of the last ``NEAR`` were read: programs that read one
directory together are only roughly in order."""

SINGLES_AHEAD = 64
"""The most objects fetched ahead of such a reader."""


@dataclass(slots=True, eq=False)
class _Stretch:
    """A range of a pack that is being used."""

    version: VersionPacks
    at: PackedAt
    stop: int
    """The member behind it."""
    size: int
    read_bytes: int = 0
    read_to: int = 0
    """The furthest byte of it, from its start, that was read."""
    has_gone_on: bool = False

    @property
    def is_read_in_order(self) -> bool:
        """Whether half of it was read, and nearly all up to the furthest place."""
        return 2 * self.read_bytes >= self.size and self.read_bytes >= self.read_to * IN_ORDER // NEAR


@dataclass(frozen=True, slots=True)
class _Unread:
    """A blob fetched ahead: it ends at byte ``end`` of a stretch of a pack, or is entry ``number`` by itself."""

    size: int
    version: VersionPacks
    stretch: _Stretch | None = None
    end: int = 0
    number: int = 0


class Ahead:
    """Decides what to fetch together with a missed blob. All on one trio thread; raises nothing."""

    def __init__(
        self,
        pipeline: FetchPipeline,
        tier: CacheTier,
        counters: Counters,
        nursery: trio.Nursery,
        versions: Callable[[], Sequence[VersionPacks]],
    ) -> None:
        self._pipeline = pipeline
        self._tier = tier
        self._counters = counters
        self._nursery = nursery
        self._versions = versions
        self._unread: OrderedDict[Digest, _Unread] = OrderedDict()
        self._read_bytes = 0
        self._numbers: OrderedDict[int, None] = OrderedDict()
        self._asked_to = 0
        self._directory = ""

    def forget(self) -> None:
        """Keep nothing of the versions that were read."""
        self._numbers.clear()
        self._unread.clear()

    @property
    def is_watching(self) -> bool:
        """Whether anything was fetched ahead that is not known to have been read."""
        return bool(self._unread)

    def missed(self, entry: Entry) -> None:
        """Begin to fetch what is worth fetching with a small blob that somebody wants now. No checkpoint."""
        if self._pipeline.is_wanted(blob_piece(entry)):
            self.used(entry)
            return
        self._unread.pop(entry.digest, None)
        with self._contained(entry):
            self._missed(entry)

    def used(self, entry: Entry) -> None:
        """Note that a blob was asked for that is here, or under way. No checkpoint."""
        unread = self._unread.pop(entry.digest, None)
        if unread is None:
            return
        self._read_bytes += unread.size
        self._counters.ahead_read_bytes += unread.size
        with self._contained(entry):
            if unread.stretch is None:
                self._fetch_singles(unread.version, unread.number)
            else:
                unread.stretch.read_bytes += unread.size
                unread.stretch.read_to = max(unread.stretch.read_to, unread.end)
                self._go_on(unread.stretch)

    @contextmanager
    def _contained(self, entry: Entry) -> Iterator[None]:
        """Log errors of the block instead of raising them: a read must not fail because fetching ahead of it does."""
        try:
            yield
        except FusepkgError as exc:
            log.debug("nothing is fetched beside %s: %s", entry.logical_key, exc)
        except Exception:
            log.exception("fetching ahead failed, which is a bug in fusepkg; nothing more is fetched ahead")
            self._versions = tuple
            self._unread.clear()

    # --- how much ----------------------------------------------------------------------------------------------

    def _window(self) -> int:
        """Return how many bytes may be fetched ahead now."""
        if self._tier.is_tight or not self._tier.has_room_ahead:
            return 0
        ahead, read = self._counters.ahead_bytes, self._counters.ahead_read_bytes
        if ahead - read > GIVE_UP_BYTES and read < ahead // GIVE_UP_PART:
            return 0
        return min(RANGE_BYTES, CREDIT * self._read_bytes - (ahead - read))

    # --- from packs --------------------------------------------------------------------------------------------

    def _missed(self, entry: Entry) -> None:
        self._read_bytes += entry.size
        for version in self._versions():
            if version.needs_table():
                self._nursery.start_soon(version.load_table)
            if not version.has_packs and not self._is_next_to_last(entry):
                continue
            number = version.number_of(entry)
            if number is None:
                continue
            at = version.find(number) if version.has_packs else None
            if at is None:
                self._fetch_singles(version, number)
            elif entry.size < BELOW_BYTES:
                self._start(version, at, self._window() + entry.size, entry)
            return

    def _go_on(self, stretch: _Stretch) -> None:
        """Fetch what follows a stretch that is read in order."""
        if stretch.has_gone_on or not stretch.is_read_in_order:
            return
        version, at, window = stretch.version, stretch.at, self._window()
        following = version.at_member(at, stretch.stop) or version.first_after(at.row)
        if following is None or window < following.pack.sizes[following.member]:
            return
        stretch.has_gone_on = True
        pack, first = following.pack, following.member
        stop = bisect_right(pack.offsets, pack.offsets[first] + window, lo=first)
        near = min(first + LOOKED_AT, stop)
        members = self._missing(version, pack, first, near)
        if members:
            members |= self._missing(version, pack, near, stop)
            self.fetch(version, following, members)

    def _start(self, version: VersionPacks, at: PackedAt, window: int, wanted: Entry) -> None:
        """Fetch a blob and its neighbours in the pack, ``window`` bytes at most; a lone blob comes from its object.

        The range is aligned: 2, 4, 8 ... members from a multiple of its length, doubled until the new half is nearly
        all cached. Unaligned ranges would leave holes between them, and each hole costs a request.
        """
        pack, first, stop = at.pack, at.member, at.member + 1
        members = self._missing(version, pack, first, stop)
        for power in range(1, len(pack.sizes).bit_length() + 1):
            lower = at.member >> power << power
            upper = min(lower + (1 << power), len(pack.sizes))
            if pack.end(upper - 1) - pack.offsets[lower] > window:
                break
            other_half = (lower, first) if lower < first else (stop, upper)
            missing = self._missing(version, pack, *other_half)
            if len(missing) * FEWEST_MISSING < other_half[1] - other_half[0]:
                break
            members |= missing
            first, stop = lower, upper
        if len(members) > 1 and at.member in members:
            self.fetch(version, at, members, wanted=wanted)

    def fetch(
        self,
        version: VersionPacks,
        at: PackedAt,
        members: dict[int, Piece],
        *,
        wanted: Entry | None = None,
        is_guess: bool = True,
    ) -> None:
        """Fetch members of a pack in one request; ``is_guess`` says that nobody has asked for those not ``wanted``."""
        pack = at.pack
        first, last = min(members), max(members)
        start, end = pack.offsets[first], pack.end(last)
        lead = members[at.member] if at.member in members else members[first]
        ordered = sorted(members.items(), key=lambda item: item[1] is not lead)
        part = Piece(Kind.RANGE, pack.pack_entry(), lead.name, start, end - start)
        riders = [(piece, pack.offsets[member] - start) for member, piece in ordered]
        self._pipeline.want_range(
            part, riders, lambda reason: version.drop(pack.key, reason), background=wanted is None
        )
        if not is_guess:
            return
        stretch = _Stretch(version, at, last + 1, end - start)
        self._counters.ahead_bytes += end - start
        if wanted is not None:
            stretch.read_bytes = wanted.size
            stretch.read_to = pack.end(at.member) - start
            self._counters.ahead_bytes -= wanted.size
        for piece, offset in riders:
            if wanted is None or piece is not lead:
                self._remember(piece.entry, _Unread(piece.length, version, stretch, offset + piece.length))

    def _missing(self, version: VersionPacks, pack: PackPlaces, first: int, stop: int) -> dict[int, Piece]:
        """Return those members of a part of a pack that are neither here nor under way, with their pieces."""
        missing: dict[int, Piece] = {}
        absent = 0
        for member, entry in enumerate(version.entries_of(pack, first, stop), first):
            piece = blob_piece(entry)
            is_looked_for = absent < LOOKED_AT or member % LOOK_EVERY == 0
            if self._pipeline.is_wanted(piece) or (is_looked_for and self._tier.has(piece.name)):
                absent = 0
            else:
                absent += 1
                missing[member] = piece
        return missing

    def is_here(self, piece: Piece) -> bool:
        """Return whether a piece is kept, held, or being fetched."""
        return self._pipeline.is_wanted(piece) or self._tier.has(piece.name)

    # --- without packs -----------------------------------------------------------------------------------------

    def _is_next_to_last(self, entry: Entry) -> bool:
        """Whether an entry lies in the directory of the one before: to look for others' numbers costs too much."""
        before, self._directory = self._directory, entry.logical_key.rpartition("/")[0]
        return before == self._directory

    def _fetch_singles(self, version: VersionPacks, number: int) -> None:
        """Fetch the objects of the next entries, if entries were read in order."""
        self._numbers[number] = None
        while len(self._numbers) > SINGLES_AHEAD:
            self._numbers.popitem(last=False)
        followed = sum(number - step in self._numbers for step in range(1, NEAR + 1))
        if followed < IN_ORDER:
            return
        stop = min(number + 1 + SINGLES_AHEAD * followed // NEAR, len(version.entries))
        start = self._asked_to if number < self._asked_to <= stop else number + 1
        room = self._window()
        for at, entry in enumerate(version.entries.between(start, stop), start):
            room -= entry.size
            is_far = entry.physical_key.scheme == "s3"  # what lies on this machine is read when it is asked for
            if room < 0 or entry.size > SMALL_BYTES or not is_far or version.find(at) is not None:
                return
            self._asked_to = at + 1
            piece = blob_piece(entry)
            if entry.size and not self.is_here(piece):
                self._pipeline.want(piece, background=True)
                self._counters.ahead_bytes += entry.size
                self._remember(entry, _Unread(entry.size, version, number=at))

    def _remember(self, entry: Entry, unread: _Unread) -> None:
        self._unread[entry.digest] = unread
        if len(self._unread) > REMEMBERED:
            self._unread.popitem(last=False)
