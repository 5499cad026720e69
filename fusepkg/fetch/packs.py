"""Where the small blobs of a version lie in packs, by its table and its index; and which packs are not to be used.

Nothing that the bucket says is believed: the table is checked against the version, a pack's name against the blobs it
should hold, and whoever fetches a part of a pack compares each blob with its hash.
"""

from __future__ import annotations

import logging
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio
from fusepkg_cache.digest import DIGEST_BYTES, Algorithm, Digest

from fusepkg.errors import AccessDenied, FusepkgError, ObjectMissing
from fusepkg.model.entry import Entry
from fusepkg.packs.pack import SizedDigest, is_small, pack_of
from fusepkg.packs.table import FEWEST_SMALL_ENTRIES, read_table
from fusepkg.work.walk import place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fusepkg.index.opening import Index
    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.packs.table import PackedSpan

log = logging.getLogger(__name__)

MISSES_BEFORE = 4
"""Small blobs that are fetched before the table is: a program that reads one file needs no table."""

MEMBERS_KEPT = 512 * 1024
"""Blobs whose places in packs are in memory, in 20 bytes each; packs not used for longest go first."""

_NO_DIGEST = Digest(Algorithm.SHA2_256, bytes(DIGEST_BYTES))
"""Of a pack as a whole, which nobody reads."""

_AGAIN_S = 60.0
"""After a table could not be had for a reason that may pass, it is asked for again no sooner."""


@dataclass(frozen=True, slots=True, eq=False)
class PackPlaces:
    """A pack whose name is right: where each of its blobs lies, and the number of an entry that has it."""

    key: PhysicalKey
    size: int
    offsets: array[int]
    sizes: array[int]
    numbers: array[int]
    member_of: array[int]
    """Member by entry of the span, counted from its first; -1 for those that are in no pack."""

    def end(self, member: int) -> int:
        """Where a blob ends in the pack."""
        return self.offsets[member] + self.sizes[member]

    def pack_entry(self) -> Entry:
        """Return what stands for the pack where an entry is asked for."""
        return Entry(f"pack {self.key.key[-64:][:9]}", self.key, self.size, _NO_DIGEST)


@dataclass(frozen=True, slots=True)
class PackedAt:
    """One blob of the version's pack number ``row``."""

    row: int
    pack: PackPlaces
    member: int


class VersionPacks:
    """The packs of one version. All on one trio thread.

    ``get_table`` asks the registry, blocking; ``pack_key`` tells where a pack lies, by its name.
    """

    def __init__(self, index: Index, get_table: Callable[[str], bytes], pack_key: Callable[[str], PhysicalKey]) -> None:
        self.entries = index.entries
        self._top_hash = index.top_hash
        self._get_table = get_table
        self._pack_key = pack_key
        self._spans: list[PackedSpan] = []
        self._loaded: OrderedDict[int, PackPlaces] = OrderedDict()
        self._members = 0
        self._bad: set[int] = set()
        self._misses = 0
        self._again_s = 0.0
        self._is_asked = len(self.entries) < FEWEST_SMALL_ENTRIES
        self._has_warned = False
        self._last = -1

    def needs_table(self) -> bool:
        """Note a miss of a small blob; return whether the table is to be loaded now."""
        self._misses += 1
        is_due = not self._is_asked and self._misses >= MISSES_BEFORE and trio.current_time() >= self._again_s
        self._is_asked = self._is_asked or is_due
        return is_due

    @property
    def is_unasked(self) -> bool:
        """Whether the table was not asked for yet."""
        return not self._is_asked

    async def load_table(self) -> None:
        """Ask for the table. Raises nothing but Cancelled: without it objects are read."""
        self._is_asked = True
        try:
            self._spans = await trio.to_thread.run_sync(self._fetch_table, abandon_on_cancel=True)
        except FusepkgError as exc:
            if isinstance(exc, ObjectMissing | AccessDenied):  # S3 says 403 to those who may not list the bucket
                log.debug("%s has no packs", self._top_hash)
            elif getattr(exc, "retryable", False):
                self._is_asked, self._again_s = False, trio.current_time() + _AGAIN_S
            else:
                self._warn(exc.message)
        except Exception:
            log.exception("the table of packs cannot be used, which is a bug in fusepkg")

    def load_table_now(self) -> None:
        """Ask for the table; blocks. Raises nothing but what is a bug: without it objects are read."""
        self._is_asked = True
        try:
            self._spans = self._fetch_table()
        except (ObjectMissing, AccessDenied):
            log.debug("%s has no packs", self._top_hash)
        except FusepkgError as exc:
            self._warn(exc.message)

    def _fetch_table(self) -> list[PackedSpan]:
        return read_table(self._get_table(self._top_hash), self._top_hash, len(self.entries))

    @property
    def has_packs(self) -> bool:
        """Whether there is a table, and a pack in it that can be used."""
        return len(self._bad) < len(self._spans)

    # --- places ----------------------------------------------------------------------------------------------

    def number_of(self, entry: Entry) -> int | None:
        """Return the number of an entry in tree order; None if the version has no such entry."""
        for number in (self._last + 1, self._last + 2):
            if number < len(self.entries) and self.entries.logical_key(number) == entry.logical_key:
                self._last = number
                break
        else:
            wanted, keys = place_of(entry.logical_key), self.entries.logical_key
            number = bisect_left(range(len(self.entries)), wanted, key=lambda at: place_of(keys(at)))
            if number == len(self.entries):
                return None
        found = self.entries.entry(number)
        if (found.logical_key, found.digest) != (entry.logical_key, entry.digest):
            return None
        self._last = number
        return number

    def find(self, number: int) -> PackedAt | None:
        """Return where the blob of an entry lies in a pack; None if it is in none that can be used."""
        row = bisect_right(self._spans, number, key=lambda packed: packed.span.first) - 1
        if row < 0 or row in self._bad or number >= self._spans[row].span.first + self._spans[row].span.entries:
            return None
        pack = self._places(row)
        if pack is None:
            return None
        member = pack.member_of[number - self._spans[row].span.first]
        return None if member < 0 else PackedAt(row, pack, member)

    def at_member(self, at: PackedAt, member: int) -> PackedAt | None:
        """Return another blob of a pack; None past its end, or if the pack is not to be used."""
        if at.row in self._bad or not 0 <= member < len(at.pack.sizes):
            return None
        return PackedAt(at.row, at.pack, member)

    def entries_of(self, pack: PackPlaces, first: int, stop: int) -> Iterator[Entry]:
        """Yield the entries behind members of a pack, from ``first`` on."""
        at = first
        while at < min(stop, len(pack.numbers)):
            end = at + 1  # entries that follow one another are read together
            while end < min(stop, len(pack.numbers), at + 64) and pack.numbers[end] == pack.numbers[end - 1] + 1:
                end += 1
            yield from self.entries.between(pack.numbers[at], pack.numbers[end - 1] + 1)
            at = end

    def first_after(self, row: int) -> PackedAt | None:
        """Return the first blob of the pack that follows; None if there is none that can be used."""
        pack = None if row + 1 >= len(self._spans) or row + 1 in self._bad else self._places(row + 1)
        return None if pack is None or not pack.sizes else PackedAt(row + 1, pack, 0)

    def drop(self, key: PhysicalKey, reason: str) -> None:
        """Use a pack no more: it is missing, or does not hold what it should."""
        for row, packed in enumerate(self._spans):
            if self._pack_key(packed.pack) == key and row not in self._bad:
                self._bad.add(row)
                self._forget(row)
                self._warn(reason)

    def _warn(self, reason: str) -> None:
        level = logging.DEBUG if self._has_warned else logging.WARNING
        self._has_warned = True
        log.log(level, "a pack of %s is not used, its objects are read instead: %s", self._top_hash[:9], reason)

    def _places(self, row: int) -> PackPlaces | None:
        pack = self._loaded.get(row)
        if pack is not None:
            self._loaded.move_to_end(row)
            return pack
        packed = self._spans[row]
        pack = self._load(packed)
        if pack is None:
            self._bad.add(row)
            self._warn(f"the table names {packed.pack[:9]} for entries that a pack of another name holds")
            return None
        self._loaded[row] = pack
        self._members += len(pack.member_of)
        while self._members > MEMBERS_KEPT and len(self._loaded) > 1:
            self._forget(next(iter(self._loaded)))
        return pack

    def _forget(self, row: int) -> None:
        pack = self._loaded.pop(row, None)
        self._members -= 0 if pack is None else len(pack.member_of)

    def _load(self, packed: PackedSpan) -> PackPlaces | None:
        first, stop = packed.span.first, packed.span.first + packed.span.entries
        blobs = [SizedDigest(size, digest) for size, digest in self.entries.blobs_between(first, stop)]
        pack = pack_of(blobs)
        if pack.name != packed.pack:
            return None
        member_of = {member.digest: number for number, member in enumerate(pack.members)}
        members = array("i", (member_of[blob.digest] if is_small(blob) else -1 for blob in blobs))
        numbers = array("Q", bytes(8 * len(pack.members)))
        for at in range(len(blobs) - 1, -1, -1):
            if members[at] >= 0:
                numbers[members[at]] = first + at
        return PackPlaces(
            self._pack_key(packed.pack),
            pack.size,
            array("Q", (member.offset for member in pack.members)),
            array("I", (member.size for member in pack.members)),
            numbers,
            members,
        )
