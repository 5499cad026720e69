"""Putting what has arrived into the cache, many pieces at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusepkg.fetch.cache_tier import CacheTier
    from fusepkg.fetch.flight import Flight

KEPT_AT_ONCE = 256
KEPT_BYTES = 16 * 1024 * 1024
"""Pieces put into the cache in one go, and their bytes (one more piece than that at most)."""

KEEPERS = 2
"""Tasks that put pieces into the cache."""


class CacheWrites:
    """The flights that have landed and wait to be kept. ``kept`` hears of those that are, or that the cache refused."""

    def __init__(self, tier: CacheTier, nursery: trio.Nursery, kept: Callable[[list[Flight]], None]) -> None:
        self._tier = tier
        self._nursery = nursery
        self._kept = kept
        self._waiting: list[Flight] = []
        self._keepers = 0
        self._keeper_ended = trio.Event()

    def add(self, flight: Flight) -> None:
        """Queue a flight that has a ``blob``."""
        self._waiting.append(flight)

    def start(self) -> None:
        """Begin to keep what waits, if there is anybody to do it. No checkpoint."""
        while self._waiting and self._keepers < KEEPERS:
            self._keepers += 1
            self._nursery.start_soon(self._keep, self._next())

    async def wait_until_kept(self) -> None:
        """Wait until all pieces that have arrived are in the cache, or refused by it."""
        while self._waiting or self._keepers:
            self._keeper_ended = trio.Event()
            await self._keeper_ended.wait()

    def _next(self) -> list[Flight]:
        room, number = KEPT_BYTES, 0
        for flight in self._waiting[:KEPT_AT_ONCE]:
            number += 1
            room -= flight.piece.length
            if room <= 0:
                break
        batch, self._waiting = self._waiting[:number], self._waiting[number:]
        return batch

    async def _keep(self, flights: list[Flight]) -> None:
        """Put landed pieces into the cache; a piece that lands meanwhile goes with the next ones."""
        try:
            while flights:
                alone = [flight.blob for flight in flights if flight.blob is not None and flight.carrier is None]
                await self._tier.keep([flight.blob for flight in flights if flight.blob is not None], alone)
                self._kept(flights)
                flights = self._next()
        finally:
            self._keepers -= 1
            self._keeper_ended.set()
