"""What we hold ourselves to, and whether a run met it.

A ratio is taken within each round, between things measured close to each other, and the median of the rounds counts:
the machine may be busy, but it is as busy for both. Where the local folder was read in turn with a subject, the ratio
is the median of those pairs; otherwise the fastest pass counts, on both sides.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.results import Results

MEMORY_LIMIT_MB = 150.0
MOUNT_LIMIT_S = 0.5
OF_LOCAL = 0.8
TIMES_RCLONE = 4.0
CACHE_OPEN_S = 0.1
CACHE_OPEN_MB = 30.0
OPEN_AGAIN_S = 0.3


@dataclass(frozen=True, slots=True)
class Target:
    """``subject``'s value in ``row``, or its ratio to the best of the family ``against``, bounded by ``limit``."""

    row: str
    subject: str
    limit: float
    against: str = ""
    at_least: bool = True

    def is_met(self, value: float) -> bool:
        """Whether a value is on the right side of the limit."""
        return value >= self.limit if self.at_least else value < self.limit


_PEERS = (
    Target("cold.list.20", "erofs", 0.7, against="obstore"),
    Target("cold-cpu.list.20", "erofs", 0.2, against="rclone", at_least=False),
    Target("warm.dropped", "erofs", 0.7, against="local"),
    Target("warm.dropped", "erofs", 3.0, against="juicefs"),
    Target("warm.dropped", "fuse", 0.4, against="local"),
    *(Target(row, "erofs", 0.9, against="local") for row in ("warm.cached.1", "warm.cached.8")),
    *(Target(row, "erofs", 3.0, against="juicefs") for row in ("warm.cached.1", "warm.cached.8")),
    *(Target(row, "fuse", 5.0, against="rclone") for row in ("warm.cached.1", "warm.cached.8")),
    Target("stream.first.20", "erofs", 0.9, against="obstore"),
    Target("stream.dropped", "erofs", 0.8, against="local"),
    Target("stream.dropped", "erofs", 1.5, against="juicefs"),
    Target("programs.ls", "fuse", 1 / 4, against="local"),
    Target("programs.find", "fuse", 1 / 4, against="local"),
    Target("programs.grep", "fuse", 1 / 3, against="local"),
    *(
        Target(f"loader.decoded.{epoch}", subject, limit, against="local")
        for subject in ("erofs", "package")
        for epoch, limit in ((1, 0.5), (2, 0.8), (3, 0.95))
    ),
    *(Target("random4k.read", engine, 0.4, against="local") for engine in ("erofs", "fuse")),
)

TARGETS = (
    *_PEERS,
    *(
        Target(row, "erofs", OF_LOCAL, against="local")
        for row in ("small.walk.dropped", "small.walk.warm", "small.cached.1", "small.cached.4")
    ),
    *(Target(row, "fuse", TIMES_RCLONE, against="rclone") for row in ("small.cached.1", "small.cached.4")),
    *(Target("mount.indexed", engine, MOUNT_LIMIT_S, at_least=False) for engine in ("erofs", "fuse")),
    *(
        Target(f"memory.peak.{kind}", engine, MEMORY_LIMIT_MB, at_least=False)
        for engine in ("erofs", "fuse")
        for kind in ("anon", "pss", "rss")
    ),
    Target("cache-open.full", "cache", CACHE_OPEN_S, at_least=False),
    Target("cache-open.memory", "cache", CACHE_OPEN_MB, at_least=False),
    Target("quilt3-open.first", "fusepkg", 1 / 2, against="quilt3", at_least=False),
    Target("quilt3-open.memory", "fusepkg", 1 / 5, against="quilt3", at_least=False),
    Target("quilt3-open.again", "fusepkg", OPEN_AGAIN_S, at_least=False),
    Target("quilt3-push.new", "fusepkg", 1 / 3, against="quilt3", at_least=False),
    Target("quilt3-push.again", "fusepkg", 1 / 20, against="quilt3", at_least=False),
    Target("quilt3-push.install", "fusepkg", 1 / 3, against="quilt3", at_least=False),
)


def family(subject: str) -> str:
    """The first word of a subject's name."""
    return subject.partition(" ")[0]


def values_by_round(results: Results, row: str, subject: str) -> dict[int, list[float]]:
    """Every value of a subject in a row; of a sample with several passes the fastest one's."""
    found: dict[int, list[float]] = defaultdict(list)
    for sample in results.samples:
        if sample.row == row and sample.subject == subject:
            found[sample.round].append(sample.best)
    return dict(found)


def value_of(results: Results, row: str, subject: str) -> float | None:
    """One number for a subject in a row: the median, or for a peak the most there ever was; None if not measured."""
    values = [value for of_round in values_by_round(results, row, subject).values() for value in of_round]
    if not values:
        return None
    return max(values) if ".peak." in row else median(values)


def ratios(results: Results, row: str, subject: str, against: str) -> list[float]:
    """The ratio of each round to the best of a family in that round: its highest rate, where there are several."""
    if against == "local" and (paired := _ratios_of_pairs(results, row, subject)):
        return paired
    names = {sample.subject for sample in results.samples if sample.row == row and family(sample.subject) == against}
    others = [values_by_round(results, row, name) for name in names]
    found = []
    for number, ours in sorted(values_by_round(results, row, subject).items()):
        best = max((median(other[number]) for other in others if number in other), default=0.0)
        if best:
            found.append(median(ours) / best)
    return found


def _ratios_of_pairs(results: Results, row: str, subject: str) -> list[float]:
    """The ratio to the bare local folder in each round, from passes taken in turn; empty where none were."""
    mine = [sample for sample in results.samples if sample.row == row and sample.subject == subject and sample.beside]
    return [
        median(ours / local for ours, local in zip(sample.passes, sample.beside, strict=True))
        for sample in sorted(mine, key=lambda sample: sample.round)
    ]


def outcome(results: Results, target: Target) -> float | None:
    """The number a target is about; None if it was not measured."""
    if not target.against:
        return value_of(results, target.row, target.subject)
    found = ratios(results, target.row, target.subject, target.against)
    return median(found) if found else None
