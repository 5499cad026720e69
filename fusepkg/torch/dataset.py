"""The datasets: samples by index, and samples one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset, IterableDataset, get_worker_info

from fusepkg.api.package import Package
from fusepkg.torch.ranks import rank_and_world
from fusepkg.training.ahead import read_batch
from fusepkg.training.select import Samples
from fusepkg.training.stream import SampleStream, load_sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fusepkg.api.entry import PackageEntry


class PackageDataset(Dataset):  # type: ignore[misc]  # where PyTorch is not installed, its classes are unknown
    """Samples of a package by index: ``PackageDataset("bucket/dataset", tag="v1", prefix="train/", load=load)``.

    ``load(entry, data)`` makes a sample of an entry and its bytes: without it a dict of key, data and meta.
    ``transform`` changes that. A batch is read side by side. Workers may be forked or spawned. Subclasses may override
    ``load``.

    Raises UsageError, and as opening and reading do.
    """

    def __init__(
        self,
        package: Package | str,
        tag: str | None = None,
        hash: str | None = None,  # noqa: A002 - the name users know
        *,
        prefix: str = "",
        where: str = "",
        keep: Callable[[PackageEntry], bool] | None = None,
        load: Callable[[PackageEntry, bytes], Any] | None = None,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        opened = Package(package, tag=tag, hash=hash) if isinstance(package, str) else package
        self.samples = Samples(opened, prefix=prefix, where=where, keep=keep)
        self._load = load
        self._transform = transform

    @property
    def package(self) -> Package:
        """The version, or the view of it that ``where`` picked."""
        return self.samples.package

    def entry(self, index: int) -> PackageEntry:
        """Return the entry behind a sample; nothing is fetched."""
        return self.samples.entry(range(len(self))[index])

    def load(self, entry: PackageEntry, data: bytes) -> Any:  # noqa: ANN401 - whatever the user makes of it
        """Make a sample of an entry and its bytes."""
        return load_sample(entry, data) if self._load is None else self._load(entry, data)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:  # noqa: ANN401 - as above
        """A sample. Raises IndexError, RemoteError, IntegrityError."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """The samples of a batch, read side by side; what a ``DataLoader`` calls."""
        places = [range(len(self))[int(index)] for index in indices]
        loaded = [self.load(entry, data) for entry, data in read_batch(self.samples, places)]
        return loaded if self._transform is None else [self._transform(sample) for sample in loaded]


class PackageStream(IterableDataset):  # type: ignore[misc]  # as above
    """The samples of a package one after another, for a ``DataLoader``: each worker has its part of this rank's part.

    Takes what ``SampleStream`` takes; ``rank`` and ``world`` are those of ``torch.distributed`` where it is set up.
    ``state_dict`` is of this process; torchdata's ``StatefulDataLoader`` asks each worker for its own.
    """

    def __init__(self, package: Package | str, **options: Any) -> None:  # noqa: ANN401 - those of SampleStream
        rank, world = rank_and_world()
        self._stream = SampleStream(package, **{"rank": rank, "world": world, **options})

    def __len__(self) -> int:
        return len(self._stream)

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        return self._stream.shard(worker.id, worker.num_workers) if worker else iter(self._stream)

    def set_epoch(self, epoch: int) -> None:
        """Have the next iteration be that epoch: workers that are started for each epoch cannot count."""
        self._stream.epoch = epoch

    def state_dict(self) -> dict[str, Any]:
        """Return how far it is in this process."""
        return self._stream.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another was. Raises UsageError if that went through other samples or another order."""
        self._stream.load_state_dict(state)
