"""Prefetching: all that is named is here afterwards, within a rate, behind every reader, whatever is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from fusepkg_cache import Cache
from fusepkg_cache.digest import Algorithm, compute_digest
from fusepkg_cache.errors import CacheReadOnly

from fusepkg.errors import EntryNotFound, ObjectMissing
from fusepkg.fetch.packs import VersionPacks
from fusepkg.fetch.prefetch import PrefetchProgress, numbers_below
from fusepkg.fetch.reader import EntryReader
from fusepkg.registry.layout import chunk_list_key, pack_table_key
from fusepkg.store.faulty import Fault, Gate
from tests.unit.fetch.desk import LARGE, settled
from tests.unit.fetch.packed import PackedDesk


@pytest.fixture
def desk(tmp_path: Path) -> PackedDesk:
    return PackedDesk.make(tmp_path, files=300)


async def prefetch(
    source: EntryReader, version: VersionPacks, *paths: str, rate: int | None = None
) -> PrefetchProgress:
    numbers = [numbers_below(version.entries, path) for path in paths or ("",)]
    one = source.prefetch(version, numbers, rate)
    with trio.fail_after(60):
        await one.run()
    return one.progress


async def test_a_version_with_packs_comes_in_few_requests(desk: PackedDesk):
    version = desk.version()
    desk.versions = [version]
    async with desk.source() as source:
        progress = await prefetch(source, version)
        assert (progress.files, progress.bytes, progress.failed_files) == (300, 300 * desk.size, 0)
        assert progress.is_done
        assert progress.fetched_bytes == 300 * desk.size
        assert len(desk.store.calls) <= 3
        await settled(source)
        desk.store.calls.clear()
        for number in range(300):
            await desk.read(source, number)
        again = await prefetch(source, version)
        assert (again.files, again.fetched_bytes) == (300, 0)
        assert desk.store.calls == []
        assert source.counters.ahead_bytes == 0  # somebody has asked for them


@pytest.mark.parametrize(
    ("path", "numbers"), [("", (0, 300)), ("d01", (200, 300)), ("d01/00205", (205, 206)), ("/d00/", (0, 200))]
)
async def test_a_part_of_a_version(desk: PackedDesk, path: str, numbers: tuple[int, int]):
    version = desk.version()
    async with desk.source() as source:
        progress = await prefetch(source, version, path)
        assert progress.files == numbers[1] - numbers[0]
        await settled(source)
        assert source.cache is not None
        here = [number for number, entry in enumerate(desk.entries) if entry.digest in source.cache]
        assert here == list(range(*numbers))


@pytest.mark.parametrize("path", ["d0", "d00/0", "d00/00000/x", "nothing"])
def test_a_path_that_is_not_there_is_refused(desk: PackedDesk, path: str):
    with pytest.raises(EntryNotFound):
        numbers_below(desk.index.entries, path)


async def test_without_packs_objects_are_fetched(desk: PackedDesk):
    desk.store.add(Fault("get", key=pack_table_key(desk.index.top_hash), error=ObjectMissing("none"), times=None))
    version = desk.version()
    async with desk.source() as source:
        progress = await prefetch(source, version)
        assert (progress.files, progress.failed_files, progress.fetched_bytes) == (300, 0, 300 * desk.size)


async def test_what_a_pack_lacks_comes_from_the_object_and_what_is_gone_is_told(desk: PackedDesk):
    for key in desk.packs:
        desk.store.inner.overwrite(key, b"truncated")
    desk.store.add(Fault("get", key="d00/00007", error=ObjectMissing("d00/00007 is gone"), times=None))
    version = desk.version()
    async with desk.source() as source:
        progress = await prefetch(source, version)
        assert (progress.files, progress.failed_files) == (300, 1)
        assert progress.as_dict()["error"] == {"code": "remote.object_missing", "message": "d00/00007 is gone"}


async def test_large_files_come_by_chunks_and_the_same_bytes_once(tmp_path: Path):
    desk = PackedDesk(tmp_path / "cache")
    contents = {"a": LARGE, "b": LARGE, "c": b"small", "d": b"", "e": LARGE[:-1]}
    for key, data in contents.items():
        desk.store.inner.overwrite(key, data)
    chunks = [LARGE[at : at + 8 * 1024 * 1024] for at in range(0, len(LARGE), 8 * 1024 * 1024)]
    hashes = b"".join(compute_digest(Algorithm.SHA2_256, chunk).value for chunk in chunks)
    digest = compute_digest(Algorithm.SHA2_256_CHUNKED, LARGE)
    desk.store.inner.overwrite(chunk_list_key(digest), hashes)
    desk.index, desk.contents = desk.index_of(contents, tmp_path / "index"), contents
    desk.entries = list(desk.index.entries)
    version = desk.version()
    async with desk.source() as source:
        progress = await prefetch(source, version)
        await settled(source)
        assert (progress.files, progress.failed_files) == (5, 0)
        assert progress.bytes == progress.total_bytes == sum(map(len, contents.values()))
        desk.store.calls.clear()
        for number in range(5):
            await desk.read(source, number)
        assert desk.store.calls == []


async def test_a_reader_goes_before_what_is_prefetched(desk: PackedDesk):
    """Of hundreds of objects that wait, the one that is read is fetched as soon as any."""
    gate = Gate()
    desk.store.add(Fault("get", key=pack_table_key(desk.index.top_hash), error=ObjectMissing("none"), times=None))
    for number in range(60):
        desk.store.add(Fault("get", key=f"d00/{number:05}", gate=gate))
    version = desk.version()
    async with desk.source() as source, trio.open_nursery() as nursery:
        nursery.start_soon(prefetch, source, version)
        await trio.to_thread.run_sync(gate.wait_reached, 40)
        with trio.fail_after(30):
            await desk.read(source, 299)
        gate.open()


async def test_a_rate_bounds_it(desk: PackedDesk, autojump_clock: trio.testing.MockClock):
    """By the clock of the loop: 300 files of 2,000 bytes at 100,000 bytes a second take some 6 s."""
    desk.store.add(Fault("get", key=pack_table_key(desk.index.top_hash), error=ObjectMissing("none"), times=None))
    version = desk.version()
    async with desk.source(settle=False) as source:
        began_s = trio.current_time()
        one = source.prefetch(version, [range(300)], 100_000)
        await one.run()
        assert trio.current_time() - began_s > 5.9
        assert one.progress.files == 300


async def test_it_ends_when_it_is_stopped(desk: PackedDesk):
    gate = Gate()
    for key in desk.packs:
        desk.store.add(Fault("get", key=key, gate=gate))
    version = desk.version()
    async with desk.source() as source, trio.open_nursery() as nursery:
        one = source.prefetch(version, [range(300)])
        nursery.start_soon(one.run)
        await trio.to_thread.run_sync(gate.wait_reached)
        one.stop()
        await trio.testing.wait_all_tasks_blocked()
        assert one.progress.is_done
        gate.open()


async def test_without_a_cache_nothing_is_prefetched(desk: PackedDesk):
    def no_cache() -> Cache:
        raise CacheReadOnly("no cache today")

    version = desk.version()
    async with desk.source(no_cache) as source:
        progress = await prefetch(source, version)
        assert progress.error is not None
        assert "--cache-size" in progress.error.hint
        assert desk.ranges == 0
