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

BEST_PEER = "best peer"
PEERS = ("rclone", "juicefs")
"""The families that ``BEST_PEER`` stands for."""

_NAMES = {
    "local": "the folder",
    "obstore": "bare obstore",
    "juicefs": "JuiceFS",
    BEST_PEER: "the best of rclone and JuiceFS",
}


@dataclass(frozen=True, slots=True)
class Target:
    """``subject``'s value in ``row``, or its ratio to the best of the family ``against``, bounded by ``limit``.

    With ``of_time`` the rates are turned into times: 4 means at most four times the time of the other.
    """

    row: str
    subject: str
    limit: float
    against: str = ""
    at_least: bool = True
    of_time: bool = False

    def is_met(self, value: float) -> bool:
        """Whether a value is on the right side of the limit."""
        return value >= self.limit if self.at_least else value <= self.limit

    def words(self, unit: str) -> str:
        """Return the aim as a reader sees it."""
        sign = "at least" if self.at_least else "at most"
        if not self.against:
            return f"{sign} {self.limit:g} {unit}"
        other = _NAMES.get(self.against, self.against)
        return f"{sign} {self.limit:.2g} x {f'the time of {other}' if self.of_time else other}"


def _of_time(row: str, subject: str, limit: float, against: str = "local") -> Target:
    return Target(row, subject, limit, against, at_least=False, of_time=True)


AIMS = (
    Target("cold.list.20", "erofs", 15, BEST_PEER),
    Target("cold.shuffled.20", "erofs", 8, BEST_PEER),
    Target("cold.list.20", "erofs plain", 0.7, "obstore"),
    Target("cold-cpu.list.20", "erofs plain", 0.2, "rclone", at_least=False),
    Target("cold-cpu.list.20", "erofs", 0.05, "rclone", at_least=False),
    Target("warm.dropped", "erofs", 0.7, "local"),
    Target("warm.dropped", "erofs", 3, "juicefs"),
    Target("warm.dropped", "fuse", 0.4, "local"),
    *(Target(row, "erofs", 0.9, "local") for row in ("warm.cached.1", "warm.cached.8")),
    *(Target(row, "erofs", 3, "juicefs") for row in ("warm.cached.1", "warm.cached.8")),
    *(Target(row, "fuse", 5, "rclone") for row in ("warm.cached.1", "warm.cached.8")),
    Target("stream.first.20", "erofs", 0.9, "obstore"),
    Target("stream.dropped", "erofs", 0.8, "local"),
    Target("stream.dropped", "erofs", 1.5, "juicefs"),
    Target("in-place.first.8", "erofs", 0.5, "local"),
    _of_time("programs.ls", "fuse", 4),
    _of_time("programs.find", "fuse", 4),
    _of_time("programs.grep", "fuse", 3),
    *(Target("random4k.dropped", engine, 0.4, "local") for engine in ("erofs", "fuse")),
    *(Target("random.chunks", engine, 1.01, at_least=False) for engine in ("erofs", "fuse")),
    *(
        Target(f"loader.decoded.{epoch}", subject, limit, "local")
        for subject in ("erofs", "fuse", "package")
        for epoch, limit in ((1, 0.5), (2, 0.8), (3, 0.95))
    ),
    *(Target("sparse.bytes", engine, 8, at_least=False) for engine in ("erofs", "fuse")),
    *(
        Target(f"names.{command}.{when}", "erofs", 0.9, "local")
        for command in ("find", "ls")
        for when in ("first", "again")
    ),
    *(Target("many.memory", engine, 200, at_least=False) for engine in ("erofs", "fuse")),
)
"""What the cold and the warm path are to reach beside the disk and the strongest peers, all in one table."""

ROWS_OF_AIMS = {
    "cold.list.20": "first epoch, 8 readers, small files in listing order, 20 ms away",
    "cold.shuffled.20": "first epoch, 8 readers, small files shuffled, 20 ms away",
    "cold-cpu.list.20": "CPU of the client for each of these files, in listing order",
    "warm.dropped": "second epoch, shuffled, page cache dropped, 8 readers",
    "warm.cached.1": "third epoch, page-cached, 1 reader",
    "warm.cached.8": "third epoch, page-cached, 8 readers",
    "stream.first.20": "one large object from end to end, cold, 20 ms away",
    "stream.dropped": "the same object again from the cache, page cache dropped",
    "in-place.first.8": "first read of small files of `local`, 8 readers, caches dropped",
    "programs.ls": "ls -lR of a source tree, warm",
    "programs.find": "find in a source tree, warm",
    "programs.grep": "grep -r in a source tree, warm",
    "random4k.dropped": "random reads of 4 KiB of a file in the cache, 4 jobs",
    "random.chunks": "chunks sent for each that was touched by random reads of 64 KiB, cold",
    "loader.decoded.1": "epoch 1, decoded",
    "loader.decoded.2": "epoch 2, decoded",
    "loader.decoded.3": "epoch 3, decoded",
    "sparse.bytes": "bytes fetched for each byte read, one small file in a hundred",
    "names.find.first": "find in a package of many names, caches dropped",
    "names.find.again": "find in a package of many names, again",
    "names.ls.first": "ls -lR of a package of many names, caches dropped",
    "names.ls.again": "ls -lR of a package of many names, again",
    "many.memory": "memory after the first read of many files: rss without file pages, all processes",
}
"""What the rows of ``AIMS`` are; a run adds how much it read."""

TARGETS = (
    *(
        Target(row, "erofs", OF_LOCAL, "local")
        for row in ("small.walk.dropped", "small.walk.warm", "small.cached.1", "small.cached.4")
    ),
    *(Target(row, "fuse", TIMES_RCLONE, "rclone") for row in ("small.cached.1", "small.cached.4")),
    *(Target("mount.indexed", engine, MOUNT_LIMIT_S, at_least=False) for engine in ("erofs", "fuse")),
    *(Target("memory.peak.nofile", engine, MEMORY_LIMIT_MB, at_least=False) for engine in ("erofs", "fuse")),
    Target("cache-open.full", "cache", CACHE_OPEN_S, at_least=False),
    Target("cache-open.memory", "cache", CACHE_OPEN_MB, at_least=False),
    Target("quilt3-open.first", "fusepkg", 1 / 2, "quilt3", at_least=False),
    Target("quilt3-open.memory", "fusepkg", 1 / 5, "quilt3", at_least=False),
    Target("quilt3-open.again", "fusepkg", OPEN_AGAIN_S, at_least=False),
    Target("quilt3-push.new", "fusepkg", 1 / 3, "quilt3", at_least=False),
    Target("quilt3-push.again", "fusepkg", 1 / 20, "quilt3", at_least=False),
    Target("quilt3-push.install", "fusepkg", 1 / 3, "quilt3", at_least=False),
)
"""What else a run is held to."""


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
    families = PEERS if against == BEST_PEER else (against,)
    names = {sample.subject for sample in results.samples if sample.row == row and family(sample.subject) in families}
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
    """Return the number a target is about; None if it was not measured."""
    if not target.against:
        return value_of(results, target.row, target.subject)
    found = compared(results, target)
    return median(found) if found else None


def compared(results: Results, target: Target) -> list[float]:
    """Return the ratio of each round that a target is about."""
    found = ratios(results, target.row, target.subject, target.against)
    return [1 / ratio for ratio in found] if target.of_time else found
