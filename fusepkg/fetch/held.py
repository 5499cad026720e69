"""Pieces in memory, from their arrival until their readers have passed them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fusepkg_cache.digest import Digest

HELD_BYTES = 32 * 1024 * 1024
"""Held beside a cache that works: four chunks. A reader asks for a chunk in 64 parts, and gets them without another
look into the cache."""

HELD_BYTES_ALONE = 256 * 1024 * 1024
"""Held if there is no cache, or one too small for what is read at a time: as many chunks as 32 readers stand in."""

ARRIVED_BYTES = 16 * 1024 * 1024
"""Small pieces in memory that were not read yet: four ranges of packs."""


@dataclass(slots=True)
class _Held:
    data: bytes
    read_bytes: int = 0

    @property
    def is_passed(self) -> bool:
        return self.read_bytes >= len(self.data)


class HeldPieces:
    """The pieces held. Those that were read to their end go first, then those not used for longest."""

    def __init__(self) -> None:
        self.bound = HELD_BYTES
        self.bytes = 0
        self._held: OrderedDict[Digest, _Held] = OrderedDict()

    def __contains__(self, name: Digest) -> bool:
        return name in self._held

    def add(self, name: Digest, data: bytes) -> None:
        """Hold a piece; others go to keep within the bound. The last one stays even if it is larger."""
        if name in self._held:
            return
        self._held[name] = _Held(data)
        self.bytes += len(data)
        if self.bytes > self.bound:
            self._drop_until_within(name)

    def read(self, name: Digest, offset: int, length: int) -> bytes | None:
        """Return part of a piece; None if it is not held."""
        held = self._held.get(name)
        if held is None:
            return None
        self._held.move_to_end(name)
        data = held.data[offset : offset + length]
        held.read_bytes += len(data)
        return data

    def get(self, name: Digest) -> bytes | None:
        """Return a whole piece; None if it is not held. Does not count as reading."""
        held = self._held.get(name)
        return None if held is None else held.data

    def drop_passed(self, name: Digest) -> None:
        """Let a piece go if it was read to its end."""
        held = self._held.get(name)
        if held is not None and held.is_passed:
            self._drop(name)

    def drop(self, name: Digest) -> None:
        """Let a piece go, if it is held."""
        if name in self._held:
            self._drop(name)

    def _drop_until_within(self, newest: Digest) -> None:
        for name in [name for name, held in self._held.items() if held.is_passed]:
            if self.bytes <= self.bound:
                return
            self._drop(name)
        while self.bytes > self.bound:
            oldest = next(iter(self._held))
            if oldest == newest:
                return
            self._drop(oldest)

    def _drop(self, name: Digest) -> None:
        self.bytes -= len(self._held.pop(name).data)


class Arrived:
    """Small pieces that were fetched ahead, until their first read, which then needs no look into the cache.

    Those that arrived first go first.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._pieces: OrderedDict[Digest, bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pieces)

    def add(self, name: Digest, data: bytes) -> None:
        """Hold a piece until it is read."""
        if name in self._pieces or len(data) > ARRIVED_BYTES:
            return
        self._pieces[name] = data
        self.bytes += len(data)
        while self.bytes > ARRIVED_BYTES:
            self.bytes -= len(self._pieces.popitem(last=False)[1])

    def read(self, name: Digest, offset: int, length: int) -> bytes | None:
        """Return part of a piece; None if it is not held. A piece that was read to its end goes."""
        data = self._pieces.get(name)
        if data is None:
            return None
        if offset + length < len(data):
            return data[offset : offset + length]
        del self._pieces[name]
        self.bytes -= len(data)
        return data[offset:] if offset else data

    def clear(self) -> None:
        """Let all of them go."""
        self._pieces.clear()
        self.bytes = 0
