from __future__ import annotations

import itertools
import json
import multiprocessing
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from fusepkg import Package
from fusepkg.api.entry import PackageEntry
from fusepkg.errors import RemoteError, UsageError
from fusepkg.fetch.blocking_reader import BlockingReader
from fusepkg.opened.contexts import close_contexts
from fusepkg.training import SampleStream, ahead
from fusepkg.training.ahead import cache_in_order
from fusepkg.training.select import Samples
from tests.unit.training.conftest import COUNT


def number_of(entry: PackageEntry, data: bytes) -> int:
    assert entry.logical_key == f"train/{int(data):03}.txt"
    return int(data)


def stream(package: Package, **options: Any) -> SampleStream:
    return SampleStream(package, **{"prefix": "train/", "load": number_of, **options})


def test_every_sample_once_in_order(package: Package) -> None:
    assert list(stream(package)) == list(range(COUNT))
    first = next(iter(SampleStream(package, prefix="train/01")))
    assert first == {"key": "train/010.txt", "data": b"10", "meta": {"annotations": [0]}}


def test_which_entries_are_samples(package: Package) -> None:
    assert len(SampleStream(package)) == COUNT + 1  # links and empty directories are none
    assert list(stream(package, prefix="train/19")) == list(range(190, COUNT))
    assert list(stream(package, keep=lambda entry: entry.meta["annotations"] == [7])) == list(range(7, COUNT, 10))
    assert list(stream(package, where="(meta->'annotations'->>0)::INT = 3")) == list(range(3, COUNT, 10))
    with pytest.raises(UsageError, match="no such sample"):
        stream(package, prefix="validation/")


def test_shuffled_and_sharded_by_rank_and_worker(package: Package) -> None:
    whole = stream(package, shuffle=True, seed=1)
    epochs = [list(whole), list(whole)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(COUNT))] * 2
    assert epochs[0] != epochs[1]
    parts = [
        list(stream(package, shuffle=True, seed=1, rank=rank, world=2).shard(worker, 3))
        for rank in range(2)
        for worker in range(3)
    ]
    assert sorted(itertools.chain(*parts)) == list(range(COUNT))
    assert parts[1] == epochs[0][0::2][1::3]


@pytest.mark.parametrize("given", [0, 1, 63, 64, 199])
def test_a_state_goes_on_with_the_remaining_samples(package: Package, given: int) -> None:
    first = stream(package, shuffle=True, seed=5)
    list(first)  # an epoch before
    whole = list(stream_at(package, 1))
    begun = list(itertools.islice(iter(first), given))
    state = json.loads(json.dumps(first.state_dict()))
    second = stream(package, shuffle=True, seed=5)
    second.load_state_dict(state)
    assert begun + list(second) == whole
    assert list(second) == list(stream_at(package, 2))


def stream_at(package: Package, epoch: int) -> SampleStream:
    found = stream(package, shuffle=True, seed=5)
    found.epoch = epoch
    return found


def test_a_state_of_something_else_is_refused(package: Package) -> None:
    state = stream(package, shuffle=True, seed=5).state_dict()
    for other in ({"seed": 6}, {"prefix": "train/1"}, {"world": 2}, {"shuffle": False}):
        with pytest.raises(UsageError, match="the state is of"):
            stream(package, **{"shuffle": True, "seed": 5, **other}).load_state_dict(state)


def test_a_sample_that_cannot_be_read_fails_when_its_turn_comes(
    package: Package, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = published / "data" / "local" / "samples" / "train" / "100.txt"
    gone.rename(gone.with_suffix(".aside"))
    try:
        samples = iter(stream(package))
        assert list(itertools.islice(samples, 100)) == list(range(100))
        with pytest.raises(RemoteError, match="100"):
            next(samples)
    finally:
        gone.with_suffix(".aside").rename(gone)


def test_no_more_is_read_ahead_than_said(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    real = ahead._read
    monkeypatch.setattr(ahead, "_read", lambda samples, batch: read.append(len(batch)) or real(samples, batch))
    monkeypatch.setattr(ahead, "BATCH_SAMPLES", 8)
    samples = iter(stream(package))
    assert next(samples) == 0
    samples.close()
    assert 1 <= len(read) <= ahead.BATCHES_AHEAD + 2
    monkeypatch.setattr(ahead, "BATCH_BYTES", 2)  # two numbers of one digit
    read.clear()
    assert list(itertools.islice(stream(package), 4)) == [0, 1, 2, 3]
    assert read[0] == 2


def test_a_sampler_caches_what_comes(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    samples, order = Samples(package, prefix="train/"), list(range(COUNT - 1, -1, -1))
    fetched = Event()
    real = ahead._fetch

    def fetch(samples: Samples, numbers: list[int]) -> None:
        real(samples, numbers)
        fetched.set()

    monkeypatch.setattr(ahead, "_fetch", fetch)
    numbers = cache_in_order(samples, order, 20)
    assert next(numbers) == order[0]
    assert fetched.wait(60)
    close_contexts()  # keeps what has arrived
    cached = [package.reader.cached_chunks(samples.entry(at).record)[0] for at in order]
    assert cached[:20] == [1] * 20
    assert cached[-1] == 0
    assert list(numbers) == order[1:]
    assert list(cache_in_order(samples, [], 20)) == []


def test_a_sampler_reads_nothing_that_is_cached(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    samples, order = Samples(package, prefix="train/"), list(range(COUNT))
    ahead._fetch(samples, order)
    close_contexts()  # keeps what has arrived
    monkeypatch.setattr(BlockingReader, "read_many", lambda *_: pytest.fail("the cache has all of them"))
    assert package.reader.missing([samples.entry(at).record for at in order]) == []
    ahead._fetch(samples, order)


def _part(streams: tuple[SampleStream, int]) -> list[int]:
    return list(streams[0].shard(streams[1], 2))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_in_worker_processes(package: Package, method: str) -> None:
    whole = stream(package, shuffle=True)
    assert next(iter(whole)) in range(COUNT)
    with multiprocessing.get_context(method).Pool(1) as pool:
        parts = pool.map_async(_part, [(whole, 0), (whole, 1)]).get(timeout=120)
        pool.close()
        pool.join()
    assert sorted(parts[0] + parts[1]) == list(range(COUNT))


def test_numpy_batches(package: Package) -> None:
    arrays = stream(package, load=lambda entry, data: np.frombuffer(data, np.uint8)[:1])
    samples = iter(arrays)
    batches = [np.stack(batch) for batch in iter(lambda: list(itertools.islice(samples, 32)), [])]
    assert [batch.shape for batch in batches] == [(32, 1)] * 6 + [(8, 1)]
