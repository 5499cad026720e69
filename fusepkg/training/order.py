"""The order of an epoch: the same on every machine for one seed, and which part of it each process has."""

from __future__ import annotations

import random
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

UNEVEN = ("pad", "drop", "keep")
"""What becomes of samples that do not divide among the ranks: the first come twice, the last not at all, or some ranks
have one sample more."""


@dataclass(frozen=True, slots=True)
class Order:
    """How epochs go through ``count`` samples. ``rank`` is this process among ``world`` that train together."""

    count: int
    shuffle: bool = False
    seed: int = 0
    rank: int = 0
    world: int = 1
    uneven: str = "pad"

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise UsageError(f"rank {self.rank} of {self.world}", hint="Ranks count from 0")
        if self.uneven not in UNEVEN:
            raise UsageError(f"uneven={self.uneven!r}", hint=f"It is one of {', '.join(UNEVEN)}")

    def epoch(self, epoch: int) -> Sequence[int]:
        """Return the samples of this rank in one epoch, in order."""
        numbers = array("Q", range(self.count))
        if self.shuffle:
            random.Random(f"{self.seed}/{epoch}").shuffle(numbers)
        extra = len(numbers) % self.world
        if extra and self.uneven == "drop":
            del numbers[-extra:]
        while numbers and len(numbers) % self.world and self.uneven == "pad":
            numbers.extend(numbers[: self.world - len(numbers) % self.world])
        return numbers[self.rank :: self.world]

    def describe(self) -> dict[str, int | str | bool]:
        """Return what must be equal where a state is loaded that another process has saved."""
        return {
            "count": self.count, "shuffle": self.shuffle, "seed": self.seed, "world": self.world, "uneven": self.uneven,
        }  # fmt: skip
