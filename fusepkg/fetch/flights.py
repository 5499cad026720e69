"""Single flight: many tasks that want the same bytes share one fetch.

Owns: who fetches, who waits, and how a result or an error reaches all of them. Must not know: what is fetched.

A fetch runs in the nursery given, not in the task of the first asker, so that a cancelled asker fails nobody else.
There is no checkpoint between looking for a flight and starting one. A flight stays findable until its bytes are
kept in the cache, so that nobody fetches again in the gap between the two.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from fusepkg.errors import RemoteUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Flight(Generic[T]):
    landed: trio.Event = field(default_factory=trio.Event)
    result: T | None = None
    error: Exception | None = None


class Flights(Generic[T]):
    """Fetches under way, by what they fetch."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._under_way: dict[Hashable, _Flight[T]] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    async def join(
        self,
        key: Hashable,
        slots: trio.CapacityLimiter,
        fetch: Callable[[], Awaitable[T]],
        keep: Callable[[T], Awaitable[None]],
    ) -> T:
        """The result of the one ``fetch`` of ``key`` under way, started now if there is none.

        ``keep`` runs after the result has been handed out, and must not raise. A flight takes one of ``slots`` for
        both, so that a network faster than the disk does not pile up in memory what waits for the disk.

        Raises what ``fetch`` raised, to every asker; RemoteUnavailable where the nursery ends before it has.
        """
        flight = self._under_way.get(key)
        if flight is None:
            flight = self._under_way[key] = _Flight()
            self._nursery.start_soon(self._fly, key, flight, slots, fetch, keep)
        await flight.landed.wait()
        if flight.error is not None:
            raise flight.error.with_traceback(None)
        assert flight.result is not None, "a flight lands with a result or an error"
        return flight.result

    async def _fly(
        self,
        key: Hashable,
        flight: _Flight[T],
        slots: trio.CapacityLimiter,
        fetch: Callable[[], Awaitable[T]],
        keep: Callable[[T], Awaitable[None]],
    ) -> None:
        try:
            async with slots:
                try:
                    flight.result = await fetch()
                except Exception as exc:  # noqa: BLE001 - handed to every asker, who raises it
                    flight.error = exc
                    return
                flight.landed.set()
                await keep(flight.result)
        finally:
            if flight.result is None and flight.error is None:
                flight.error = RemoteUnavailable("the mount is ending")
            flight.landed.set()
            del self._under_way[key]
