"""PyTorch reads packages: by index and one after another, in workers, resumed."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from fusepkg import Package
from fusepkg.api.entry import PackageEntry
from fusepkg.errors import UsageError
from tests.published import registry as registry
from tests.unit.training.conftest import COUNT, publish_samples

torch = pytest.importorskip("torch", reason="PyTorch is not in this environment: make test-heavy")
from torch.utils.data import DataLoader  # noqa: E402 - only where it is

from fusepkg.torch import PackageDataset, PackageLoader, PackageSampler, PackageStream  # noqa: E402 - as above

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's own, of which there are many


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("torch")
    publish_samples(base)
    return base


def number_of(entry: PackageEntry, data: bytes) -> int:
    assert entry.logical_key == f"train/{int(data):03}.txt"
    return int(data)


@pytest.fixture
def dataset() -> PackageDataset:
    return PackageDataset("local/samples", tag="v1", prefix="train/", load=number_of)


def numbers(batches: Any) -> list[int]:
    return [int(number) for batch in batches for number in batch]


def annotated(entry: PackageEntry, data: bytes) -> dict[str, Any]:
    return {"image": data, "annotations": entry.metadata["annotations"]}


def test_by_index() -> None:
    dataset = PackageDataset("local/samples", tag="v1", prefix="train/", load=annotated)
    assert len(dataset) == COUNT
    assert dataset[13] == {"image": b"13", "annotations": [3]}
    assert dataset[-1] == dataset[COUNT - 1]
    with pytest.raises(IndexError):
        dataset[COUNT]
    assert [dataset[n] for n in (5, 3)] == dataset.__getitems__([5, 3])
    doubled = PackageDataset(Package("local/samples:v1"), prefix="train/", load=number_of, transform=lambda n: n * 2)
    assert doubled[21] == 42
    assert len(PackageDataset("local/samples", "v1", where="(meta->'annotations'->>0)::INT = 3")) == COUNT // 10


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers(dataset: PackageDataset, method: str) -> None:
    assert dataset[0] == 0  # something is open before
    loader = DataLoader(dataset, batch_size=16, num_workers=2, multiprocessing_context=method, shuffle=True)
    for _ in range(2):
        assert sorted(numbers(loader)) == list(range(COUNT))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("given", [0, 5, 13])
def test_resumed_in_the_middle(dataset: PackageDataset, workers: int, given: int) -> None:
    def loader(num_workers: int) -> PackageLoader:
        return PackageLoader(dataset, 15, shuffle=True, seed=4, num_workers=num_workers, ahead=32)

    whole = loader(0)
    epochs = [numbers(whole), numbers(whole)]
    assert sorted(epochs[0]) == list(range(COUNT))
    assert epochs[0] != epochs[1]
    begun = loader(workers)
    got = numbers(itertools.islice(begun, given))
    kept = io.BytesIO()
    torch.save(begun.state_dict(), kept)
    kept.seek(0)
    resumed = loader(2 - workers)
    resumed.load_state_dict(torch.load(kept))
    assert got + numbers(resumed) == epochs[0]
    assert numbers(resumed) == epochs[1]
    with pytest.raises(UsageError, match="batch_size"):
        PackageLoader(dataset, 16, shuffle=True, seed=4).load_state_dict(begun.state_dict())


def test_ranks_and_a_loader_of_ones_own(dataset: PackageDataset) -> None:
    parts = []
    for rank in range(3):
        sampler = PackageSampler(dataset, shuffle=True, seed=2, rank=rank, world=3, uneven="keep")
        sampler.set_epoch(1)
        parts.append(numbers(DataLoader(dataset, batch_size=8, sampler=sampler)))
    assert sorted(itertools.chain(*parts)) == list(range(COUNT))


@pytest.mark.parametrize("workers", [0, 3])
def test_one_after_another(workers: int) -> None:
    stream = PackageStream("local/samples:v1", prefix="train/", load=number_of, shuffle=True, seed=1)
    stream.set_epoch(3)
    assert len(stream) == COUNT
    assert sorted(numbers(DataLoader(stream, batch_size=16, num_workers=workers))) == list(range(COUNT))


def test_a_stream_goes_on() -> None:
    def stream() -> PackageStream:
        return PackageStream("local/samples:v1", prefix="train/", load=number_of, shuffle=True, seed=1)

    whole, begun, resumed = list(stream()), stream(), stream()
    got = list(itertools.islice(begun, 77))
    resumed.load_state_dict(json.loads(json.dumps(begun.state_dict())))
    assert got + list(resumed) == whole


@pytest.mark.parametrize("given", [0, 3, 9])
def test_the_loader_of_torchdata_goes_on_with_what_remains(given: int) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata is not here: make test-heavy")

    def loader() -> Any:
        stream = PackageStream("local/samples:v1", prefix="train/", load=number_of, shuffle=True, seed=1)
        return stateful.StatefulDataLoader(stream, batch_size=10, num_workers=2)

    whole, begun, resumed = numbers(loader()), loader(), loader()
    got = numbers(itertools.islice(begun, given))
    resumed.load_state_dict(begun.state_dict())
    assert got + numbers(resumed) == whole
    assert sorted(whole) == list(range(COUNT))
