"""Single flight: many tasks that want the same bytes share one fetch.

Owns: who fetches, who waits, and how a result or an error reaches all of them. Must not know: what is fetched.

A flight runs in the nursery given, not in the task of the first asker, so that a cancelled asker fails nobody else.
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

    def land(self, result: T) -> None:
        self.result = result
        self.landed.set()


class Flights(Generic[T]):
    """Fetches under way, by what they fetch."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._under_way: dict[Hashable, _Flight[T]] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    async def join(self, key: Hashable, fly: Callable[[Callable[[T], None]], Awaitable[None]]) -> T:
        """The result of the one flight of ``key`` under way, started now if there is none.

        ``fly`` is given a function to land with: it hands its argument to all askers, and ``fly`` goes on to keep it.
        A flight lands or raises; once it has landed, it must not raise.

        Raises what ``fly`` raised, to every asker; RemoteUnavailable where the nursery ends before it has.
        """
        flight = self._under_way.get(key)
        if flight is None:
            flight = self._under_way[key] = _Flight()
            self._nursery.start_soon(self._fly, key, flight, fly)
        await flight.landed.wait()
        if flight.error is not None:
            raise flight.error.with_traceback(None)
        assert flight.result is not None, "a flight lands with a result or an error"
        return flight.result

    async def _fly(
        self, key: Hashable, flight: _Flight[T], fly: Callable[[Callable[[T], None]], Awaitable[None]]
    ) -> None:
        try:
            await fly(flight.land)
        except Exception as exc:
            if flight.landed.is_set():
                raise
            flight.error = exc  # handed to every asker, who raises it
        finally:
            if flight.result is None and flight.error is None:
                flight.error = RemoteUnavailable("the mount is ending")
            flight.landed.set()
            del self._under_way[key]
