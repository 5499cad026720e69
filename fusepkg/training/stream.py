"""Samples one after another, for any framework: in order or shuffled, sharded, and from where another run stopped."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from fusepkg.errors import UsageError
from fusepkg.training.ahead import read_in_order
from fusepkg.training.order import Order
from fusepkg.training.select import Samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fusepkg.api.entry import PackageEntry
    from fusepkg.api.package import Package


def load_sample(entry: PackageEntry, data: bytes) -> dict[str, Any]:
    """Return a sample as it is without ``load``: its name, its bytes, and the metadata that its publisher gave it."""
    return {"key": entry.logical_key, "data": data, "meta": entry.meta}


class SampleStream:
    """The samples of a package: ``for sample in SampleStream("bucket/dataset:v1", prefix="train/", shuffle=True)``.

    Each iteration is one epoch, and the next has the next number. ``load(entry, data)`` makes a sample of an entry and
    its bytes, ``transform`` changes it. What comes next is fetched ahead in batches. ``prefix``, ``where`` and ``keep``
    choose entries; ``rank`` of ``world`` says which part is this process's.

    Raises UsageError, and as opening and reading do.
    """

    def __init__(
        self,
        package: Package | str,
        *,
        prefix: str = "",
        where: str = "",
        keep: Callable[[PackageEntry], bool] | None = None,
        load: Callable[[PackageEntry, bytes], Any] = load_sample,
        transform: Callable[[Any], Any] | None = None,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        uneven: str = "pad",
    ) -> None:
        self.samples = Samples(package, prefix=prefix, where=where, keep=keep)
        self.order = Order(len(self.samples), shuffle, seed, rank, world, uneven)
        self.epoch = 0
        """The number of the epoch that is going on, or comes next."""
        self._load = load
        self._transform = transform
        self._given = 0
        self._start = 0

    def __len__(self) -> int:
        return len(self.order.epoch(self.epoch))

    def __iter__(self) -> Iterator[Any]:
        return self.shard(0, 1)

    def shard(self, worker: int, workers: int) -> Iterator[Any]:
        """Yield every ``workers``-th sample of this rank's epoch, beginning with number ``worker``."""
        start, self._start = self._start, 0
        self._given = start
        mine = self.order.epoch(self.epoch)[worker::workers]
        for entry, data in read_in_order(self.samples, islice(mine, start, None)):
            sample = self._load(entry, data)
            self._given += 1
            yield sample if self._transform is None else self._transform(sample)
        self._given = 0
        self.epoch += 1

    def state_dict(self) -> dict[str, Any]:
        """Return how far it is: a stream that loads it gives exactly what this one would have given next."""
        return {**self._own(), "epoch": self.epoch, "given": self._given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another stream was. Raises UsageError if that went through other samples or another order."""
        check_state(state, self._own())
        self.epoch = int(state["epoch"])
        self._start = self._given = int(state["given"])

    def _own(self) -> dict[str, Any]:
        return {**self.samples.identity, **self.order.describe()}


def check_state(state: dict[str, Any], own: dict[str, Any]) -> None:
    """Raise UsageError, naming the difference, if a state is of other samples or of another order."""
    for name, value in own.items():
        if state.get(name) != value:
            raise UsageError(
                f"the state is of {name} {state.get(name)!r}, and this is {value!r}",
                hint="Resume with the package, selection, seed and number of processes that it was saved with",
            )
