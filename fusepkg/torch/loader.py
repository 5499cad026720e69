"""A loader that fetches ahead in the sampler's order, and can stop and go on in the middle of an epoch."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader, Sampler

from fusepkg.torch.ranks import rank_and_world
from fusepkg.training.ahead import cache_in_order
from fusepkg.training.order import Order
from fusepkg.training.stream import check_state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusepkg.torch.dataset import PackageDataset

AHEAD = 256
"""Samples fetched into the cache before a worker asks for them, unless told otherwise."""


class PackageSampler(Sampler):  # type: ignore[misc]  # where PyTorch is not installed, its classes are unknown
    """The indexes of this rank in the order of an epoch; what comes next is fetched into the cache meanwhile.

    For a ``DataLoader`` of your own: ``DataLoader(dataset, sampler=PackageSampler(dataset, shuffle=True))``. Call
    ``set_epoch`` before each epoch, as with PyTorch's ``DistributedSampler``. ``ahead`` of 0 fetches nothing.
    """

    def __init__(
        self,
        dataset: PackageDataset,
        *,
        shuffle: bool = False,
        seed: int = 0,
        rank: int | None = None,
        world: int | None = None,
        uneven: str = "pad",
        ahead: int = AHEAD,
    ) -> None:
        found = rank_and_world()
        self._samples = dataset.samples
        self.order = Order(
            len(dataset),
            shuffle,
            seed,
            found[0] if rank is None else rank,
            found[1] if world is None else world,
            uneven,
        )
        self.epoch = 0
        self.start = 0
        """Samples of the epoch to leave out at its beginning."""
        self._ahead = ahead

    def set_epoch(self, epoch: int) -> None:
        """Have the next iteration be that epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return max(0, len(self.order.epoch(self.epoch)) - self.start)

    def __iter__(self) -> Iterator[int]:
        numbers = islice(self.order.epoch(self.epoch), self.start, None)
        return cache_in_order(self._samples, numbers, self._ahead) if self._ahead else iter(numbers)


class PackageLoader:
    """A ``DataLoader`` over a ``PackageDataset`` that counts what it has given.

    Each iteration is one epoch. ``state_dict()`` may be taken after any batch: another loader that loads it, with as
    many workers or with others, gives exactly the batches that this one would have given next. Further options are
    those of ``DataLoader`` (``num_workers``, ``collate_fn``, ``pin_memory``, ...).
    """

    def __init__(
        self,
        dataset: PackageDataset,
        batch_size: int = 1,
        *,
        shuffle: bool = False,
        seed: int = 0,
        rank: int | None = None,
        world: int | None = None,
        uneven: str = "pad",
        ahead: int = AHEAD,
        **options: Any,  # noqa: ANN401 - those of DataLoader
    ) -> None:
        self.sampler = PackageSampler(
            dataset, shuffle=shuffle, seed=seed, rank=rank, world=world, uneven=uneven, ahead=ahead
        )
        self._loader = DataLoader(dataset, batch_size=batch_size, sampler=self.sampler, **options)
        self._own = {**dataset.samples.identity, **self.sampler.order.describe(), "batch_size": batch_size}
        self._batch_size = batch_size
        self._given = 0
        self._start = 0

    @property
    def epoch(self) -> int:
        """The number of the epoch that is going on, or comes next."""
        return self.sampler.epoch

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        self._given, self._start = self._start, 0
        self.sampler.start = self._given * self._batch_size
        for batch in self._loader:
            self._given += 1
            yield batch
        self._given = self.sampler.start = 0
        self.sampler.epoch += 1

    def state_dict(self) -> dict[str, Any]:
        """Return how far it is."""
        return {**self._own, "epoch": self.epoch, "given": self._given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another loader was. Raises UsageError if that went through other samples or another order."""
        check_state(state, self._own)
        self.sampler.epoch = int(state["epoch"])
        self._given = self._start = int(state["given"])
