"""How long reads have waited for the bucket: a histogram, from which percentiles are told."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate

BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds of the classes, in seconds; one more class has what is above."""


@dataclass(slots=True)
class Waits:
    """Reads by how long they have waited, those that failed included. Changed on the event loop's thread only."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Note a read."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    def as_dict(self) -> dict[str, object]:
        """The classes' upper bounds, how many reads are in each, the sum of all, and within what most have waited."""
        within = {f"p{part}_s": self.percentile(part) for part in (50, 95, 99)}
        return {"bounds_s": list(BOUNDS_S), "counts": list(self.counts), "sum_s": self.sum_s, **within}

    def percentile(self, percent: int) -> float | None:
        """Return the bound within which so many of all reads lie; None without reads, or above the last one."""
        wanted = sum(self.counts) * percent / 100
        so_far = accumulate(self.counts)
        return next((bound for bound, reads in zip(BOUNDS_S, so_far, strict=False) if reads >= wanted > 0), None)
