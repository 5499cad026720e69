"""An answer as it comes in: what its head says, how much of its body is kept, and what can go wrong on the way."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Kind: TypeAlias = Literal["connect", "connect timeout", "tls", "proxy", "silence", "broken", "garbage"]


class ExchangeFailure(Exception):
    """No whole answer came; the text says why. With ``stale`` a kept connection had been closed by the server."""

    def __init__(self, kind: Kind, words: str = "", *, stale: bool = False) -> None:
        super().__init__(words or kind)
        self.kind = kind
        self.stale = stale


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers of an answer: those of KEPT_HEADERS, values of a repeated name joined by commas."""

    status: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: its body holds what there was room for."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Room:
    """How much of a body is kept: up to ``keep`` bytes, after ``skip`` others.

    With ``cut`` what comes after is left unread and the connection closed; else more is an error, which ``wrong``
    makes. With ``exact`` fewer bytes are that error too.
    """

    keep: int
    skip: int = 0
    cut: bool = False
    exact: bool = False
    wrong: Callable[[], Exception] | None = None


Accept: TypeAlias = "Callable[[Head], Room]"
"""Says how much of a body is kept once the head is there. May raise to refuse the answer."""


class Body:
    """The kept bytes of one body. ``length`` is its Content-Length, None for a body in chunks."""

    def __init__(self, room: Room, length: int | None) -> None:
        if length is not None and not room.cut and length - room.skip > room.keep:
            raise self._wrong(room)
        self._room = room
        self._to_skip = room.skip
        self._most = room.keep if length is None else min(room.keep, max(0, length - room.skip))
        self._length = length
        self._first = b""
        self._rest: BytesIO | None = None
        self._view: memoryview | None = None
        self._kept = 0

    @staticmethod
    def _wrong(room: Room) -> Exception:
        return room.wrong() if room.wrong else ExchangeFailure("garbage", "the answer's body is longer than it may be")

    @property
    def is_full(self) -> bool:
        """Whether all that is kept has come."""
        return self._kept == self._most and not self._to_skip

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the body was left unread, if it is full."""
        return self._length is not None and self._length <= self._room.skip + self._most

    def take(self, data: bytes) -> None:
        """Keep the next bytes of the body. Raises what ``Room.wrong`` makes for more than there is room for."""
        if self._to_skip:
            skipped = min(self._to_skip, len(data))
            self._to_skip -= skipped
            data = data[skipped:]
        left = self._most - self._kept
        if len(data) > left:
            if not self._room.cut:
                raise self._wrong(self._room)
            data = data[:left]
        if not data:
            return
        if not self._kept and len(data) == self._most:
            self._first = data
        else:
            if self._rest is None:
                self._rest = BytesIO()
            self._rest.write(data)
        self._kept += len(data)

    def space(self) -> memoryview | None:
        """Memory for all bytes that are to come, to be filled from its start; None where their number is not known."""
        if self._length is None or self._to_skip or self.is_full:
            return None
        there = self._rest.getvalue() if self._rest is not None else self._first
        self._first = b""
        # A BytesIO of zeros that only it holds gives its memory, and later its bytes, without a copy.
        self._rest = BytesIO(bytes(self._most))
        self._view = self._rest.getbuffer()
        self._view[: self._kept] = there
        return self._view[self._kept :]

    def filled(self, count: int) -> None:
        """Note that so many more bytes of ``space`` hold the body."""
        self._kept += count

    def result(self, *, partly: bool = False) -> bytes:
        """Return what was kept; call it once. Raises what ``Room.wrong`` makes for too few bytes.

        With ``partly`` the body may have ended early.
        """
        if self._room.exact and self._kept != self._room.keep and not partly:
            raise self._wrong(self._room)
        if self._rest is None:
            return self._first
        if self._view is not None:
            self._view.release()
            if self._kept < self._most:
                self._rest.truncate(self._kept)
        return self._rest.getvalue()
