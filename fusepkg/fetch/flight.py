"""One fetch under way, which all readers of a piece share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
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
