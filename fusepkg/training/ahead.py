"""Read samples ahead: the order is known, so what comes next is fetched in batches while the last ones are used."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from fusepkg.errors import FusepkgError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    from fusepkg.api.entry import PackageEntry
    from fusepkg.model.entry import Entry
    from fusepkg.training.select import Samples

BATCH_SAMPLES = 64
"""Fetched in one call: as many as the pipeline can ask for side by side."""

BATCH_BYTES = 16 << 20
"""A batch ends where it has so many: large samples are fetched one by one."""

BATCHES_AHEAD = 3
"""Held in memory at most, beside the one being used: 64 MiB, unless single samples are larger."""

LARGEST_BYTES = 64 << 20
"""Samples above are not fetched into the cache ahead of a worker: those are read in ranges, if at all as a whole."""

_Sized = TypeVar("_Sized", "PackageEntry", "Entry")

Read = tuple["PackageEntry", "bytes | FusepkgError"]


def read_in_order(
    samples: Samples, order: Iterable[int], ahead: int = BATCHES_AHEAD
) -> Iterator[tuple[PackageEntry, bytes]]:
    """Yield entry and bytes of each sample in that order, ``ahead`` batches of them fetched before.

    Raises what kept a sample's bytes away, when its turn comes.
    """
    batches = _cut(map(samples.entry, order))
    waiting: deque[Future[list[Read]]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="fusepkg-ahead") as pool:
        try:
            for batch in islice(batches, ahead + 1):
                waiting.append(pool.submit(_read, samples, batch))
            while waiting:
                done = waiting.popleft().result()
                for following in islice(batches, 1):
                    waiting.append(pool.submit(_read, samples, following))
                for entry, data in done:
                    if isinstance(data, FusepkgError):
                        raise data
                    yield entry, data
        finally:
            for one in waiting:
                one.cancel()


def read_batch(samples: Samples, batch: Iterable[int]) -> list[tuple[PackageEntry, bytes]]:
    """Read samples side by side. Raises what kept any of them away."""
    found = _read(samples, [samples.entry(sample) for sample in batch])
    for _, data in found:
        if isinstance(data, FusepkgError):
            raise data
    return [(entry, data) for entry, data in found if isinstance(data, bytes)]


def cache_in_order(samples: Samples, order: Iterable[int], ahead: int) -> Iterator[int]:
    """Yield the numbers as they come, while at least ``ahead`` samples after each are fetched into the cache.

    For processes that read them a little later. What cannot be fetched is left to them, and so are large samples.
    """
    numbers = iter(order)
    coming: deque[int] = deque()
    fetching: deque[Future[object]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="fusepkg-ahead") as pool:
        try:
            while True:
                if len(coming) <= ahead:
                    more = list(islice(numbers, max(1, min(BATCH_SAMPLES, ahead))))
                    coming.extend(more)
                    if more:
                        fetching.append(pool.submit(_fetch, samples, more))
                while fetching and fetching[0].done():
                    fetching.popleft()
                if not coming:
                    return
                yield coming.popleft()
        finally:
            for one in fetching:
                one.cancel()


def _fetch(samples: Samples, numbers: list[int]) -> None:
    reader = samples.package.reader
    records = (samples.entry(number).record for number in numbers)
    for batch in _cut(reader.missing([record for record in records if record.size <= LARGEST_BYTES])):
        reader.read_many([(record, 0, record.size) for record in batch])


def _cut(entries: Iterable[_Sized]) -> Iterator[list[_Sized]]:
    batch: list[_Sized] = []
    size = 0
    for entry in entries:
        batch.append(entry)
        size += entry.size
        if len(batch) == BATCH_SAMPLES or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _read(samples: Samples, batch: list[PackageEntry]) -> list[Read]:
    records = [entry.record for entry in batch]
    found = samples.package.reader.read_many([(record, 0, record.size) for record in records])
    return list(zip(batch, found, strict=True))
