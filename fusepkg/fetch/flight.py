"""One fetch under way, which all readers of a piece share."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import trio
from fusepkg_cache.digest import verified
from fusepkg_cache.errors import WrongBytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusepkg_cache import Claim, Verified

    from fusepkg.errors import FusepkgError
    from fusepkg.fetch.piece import Piece
    from fusepkg.model.entry import Entry
    from fusepkg.model.physical_key import PhysicalKey


@dataclass(eq=False, slots=True)
class Flight:
    """A piece from its first reader to the moment it is kept, or has failed.

    Readers wait for ``landed``; then either ``data`` or ``error`` is set. The bytes reach the readers before they are
    kept, and a reader that comes in between shares them.
    """

    piece: Piece
    background: bool
    """Nobody waits for it yet."""
    keep: bool
    """Whether it goes into the cache."""
    landed: trio.Event = field(default_factory=trio.Event)
    data: bytes | None = None
    error: FusepkgError | None = None
    claim: Claim | None = None
    first_failed_s: float | None = None
    """When a request failed first: retries end some time after that."""
    attempts: int = 0
    requests: int = 0
    """Requests under way."""
    wrong: int = 0
    """How often wrong bytes have come."""
    place: PhysicalKey | None = None
    """Where the bytes are fetched from, if not where the entry says."""
    blob: Verified | None = None
    """The bytes as the cache takes them."""
    carrier: RangeFlight | None = None
    """The range of a pack that the piece is fetched with; None if it is fetched by itself."""

    @property
    def entry(self) -> Entry:
        """The entry, with the place that is asked."""
        entry = self.piece.entry
        return entry if self.place is None else replace(entry, physical_key=self.place)

    def land(self, data: bytes) -> None:
        """Give the bytes to all readers."""
        self.data = data
        self.landed.set()

    def fail(self, error: FusepkgError) -> None:
        """Give the error to all readers."""
        self.error = error
        self.landed.set()

    async def wait(self) -> bytes:
        """Return the bytes once they are here. Raises what the fetch ended with."""
        await self.landed.wait()
        if self.error is not None:
            raise self.error.with_traceback(None)
        assert self.data is not None, "a flight lands with bytes or an error"
        return self.data


@dataclass(eq=False, slots=True)
class RangeFlight(Flight):
    """A part of a pack. The pieces in it ride on its flight: they land with it, or go on by themselves."""

    riders: list[tuple[Flight, int]] = field(default_factory=list)
    """Flights of pieces, each with where its bytes begin in the range; the range has the name of the first one."""
    left: int = 0
    """Riders that are neither kept nor on their own."""
    unusable: Callable[[str], None] = lambda _reason: None
    """Hears why the pack cannot be used."""

    def take_in(self, rider: Flight, start: int) -> None:
        """Let a flight ride from byte ``start`` of the range."""
        rider.carrier = self
        self.riders.append((rider, start))
        self.left += 1

    def let_go(self, rider: Flight) -> bool:
        """Note that a flight rides no more; return whether it was the last."""
        rider.carrier = None
        self.left -= 1
        return self.left == 0

    def split(self, answer: bytes) -> list[Verified | None]:
        """Return the riders' blobs out of the range's bytes; None for each that is not what its name says."""
        view = memoryview(answer)
        return [
            _verified_or_none(rider.piece, view[start : start + rider.piece.length]) for rider, start in self.riders
        ]


def _verified_or_none(piece: Piece, data: memoryview) -> Verified | None:
    if len(data) == piece.length:
        with suppress(WrongBytes):
            return verified(piece.name, bytes(data))
    return None
