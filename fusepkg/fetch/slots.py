"""Which piece is fetched next: pieces that readers wait for come first, and no object may take all slots."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusepkg.fetch.flight import Flight
    from fusepkg.model.physical_key import PhysicalKey

SMALL_BYTES = 1024 * 1024
"""A piece of at most this size is small."""

SMALL_SLOTS = 64
"""Small pieces fetched at a time: enough to hide a round trip behind others, few enough for any server."""

LARGE_SLOTS = 12
"""Larger pieces fetched at a time. A piece holds its bytes until they are in the cache, so both numbers bound the
memory of what is fetched: 64 MiB of small ones and 96 MiB of chunks of 8 MiB, if all arrive at once."""

OBJECT_SLOTS = 8
"""Of the large slots, those that one object may take."""

BACKGROUND_SHARE = 0.67
"""Part of the slots that background pieces may take."""

SLOW_S = 2.0
"""A request that has not been answered after this long gives its slot to another, and goes on beside it."""

SLOW_SMALL, SLOW_LARGE = 256, 64
"""How many slow requests may be under way beside the slots; further slow ones keep their slots. A request without an
answer holds no bytes; if all the large ones were answered at once, they would fill 512 MiB."""

SLOW_BACKGROUND = 12
"""With more slow requests than this, no background piece begins: the bucket or the network is busy enough."""

SLOW_OBJECT_SLOTS = 2
"""Requests at a time for a large object one of whose requests is slow: the others may stall too."""


@dataclass(slots=True)
class _Lane:
    """Slots for pieces of one size class. ``taken`` maps flights to when they began, oldest first."""

    slots: int
    slow_slots: int
    object_slots: int
    waiting: deque[Flight] = field(default_factory=deque)
    background: deque[Flight] = field(default_factory=deque)
    taken: dict[Flight, float] = field(default_factory=dict)
    slow: set[Flight] = field(default_factory=set)
    objects: dict[PhysicalKey, int] = field(default_factory=dict)
    slow_objects: dict[PhysicalKey, int] = field(default_factory=dict)

    def let_slow_go(self, now: float) -> None:
        """Count requests that are out for too long as slow, which frees their slots."""
        for flight in list(takewhile(lambda flight: now - self.taken[flight] >= SLOW_S, self._unanswered())):
            if len(self.slow) >= self.slow_slots:
                return
            del self.taken[flight]
            self.slow.add(flight)
            _count(self.slow_objects, flight, 1)

    def next_slow_s(self) -> float | None:
        """Return when a slot will be given up that another flight waits for."""
        if not self.waiting and (not self.background or len(self.slow) > SLOW_BACKGROUND):
            return None
        if len(self.slow) >= self.slow_slots:
            return None
        oldest = next(self._unanswered(), None)
        return None if oldest is None else self.taken[oldest] + SLOW_S

    def _unanswered(self) -> Iterator[Flight]:
        """Yield the flights with slots and no bytes yet, oldest first; those that wait for the disk fill memory."""
        return (flight for flight in self.taken if not flight.landed.is_set())

    def take(self, now: float) -> Iterator[Flight]:
        """Yield what may begin now."""
        self.let_slow_go(now)
        yield from self._take(self.waiting, self.slots, now)
        if not self.waiting and len(self.slow) <= SLOW_BACKGROUND:
            yield from self._take(self.background, int(self.slots * BACKGROUND_SHARE), now)

    def _take(self, queue: deque[Flight], slots: int, now: float) -> Iterator[Flight]:
        passed_over: list[Flight] = []
        while queue and len(self.taken) < slots:
            flight = queue.popleft()
            place = flight.piece.entry.physical_key
            share = SLOW_OBJECT_SLOTS if place in self.slow_objects else self.object_slots
            if self.objects.get(place, 0) >= share:
                passed_over.append(flight)
                continue
            self.taken[flight] = now
            _count(self.objects, flight, 1)
            yield flight
        queue.extendleft(reversed(passed_over))

    def free(self, flight: Flight) -> None:
        """Give a slot back, if the flight has one."""
        if flight in self.slow:
            self.slow.remove(flight)
            _count(self.slow_objects, flight, -1)
        elif self.taken.pop(flight, None) is None:
            return
        _count(self.objects, flight, -1)


class Slots:
    """The queue of wanted pieces, and the slots of those being fetched."""

    def __init__(self) -> None:
        self._small = _Lane(SMALL_SLOTS, SLOW_SMALL, SMALL_SLOTS)
        self._large = _Lane(LARGE_SLOTS, SLOW_LARGE, OBJECT_SLOTS)

    def add(self, flight: Flight) -> None:
        """Queue a flight."""
        lane = self._lane(flight)
        (lane.background if flight.background else lane.waiting).append(flight)

    def promote(self, flight: Flight) -> None:
        """Move a flight that a reader now waits for before all background flights."""
        flight.background = False
        lane = self._lane(flight)
        if flight in lane.background:
            lane.background.remove(flight)
            lane.waiting.append(flight)

    def take(self, now: float) -> list[Flight]:
        """Return the flights that may begin now; each has a slot until it is freed."""
        return [*self._small.take(now), *self._large.take(now)]

    def free(self, flight: Flight) -> None:
        """Give back the slot of a flight. Does nothing if it has none."""
        self._lane(flight).free(flight)

    def next_slow_s(self) -> float | None:
        """Return when a slot will be given up that another flight waits for."""
        due = [lane.next_slow_s() for lane in (self._small, self._large)]
        return min((when_s for when_s in due if when_s is not None), default=None)

    def _lane(self, flight: Flight) -> _Lane:
        return self._small if flight.piece.length <= SMALL_BYTES else self._large


def _count(counts: dict[PhysicalKey, int], flight: Flight, by: int) -> None:
    place = flight.piece.entry.physical_key
    counts[place] = counts.get(place, 0) + by
    if not counts[place]:
        del counts[place]
