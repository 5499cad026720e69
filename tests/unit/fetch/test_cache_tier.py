"""Without a usable cache: every read is right, few bytes are fetched twice, and the cache is used once it works."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
from fusepkg_cache import Cache, Digest, Verified, write_lock
from fusepkg_cache.errors import CacheFull, CacheReadOnly

from fusepkg.fetch import cache_tier
from tests.unit.cache.stopped import stopped
from tests.unit.fetch.desk import LARGE, SMALL, Desk, read_in_pages, settled


class Opener:
    """Opens a cache, or is refused."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.refusing = True
        self.calls = 0

    def __call__(self) -> Cache:
        self.calls += 1
        if self.refusing:
            raise CacheReadOnly(f"cannot use {self.directory} as a cache")
        return Cache(self.directory)


class Disk:
    """A cache whose disk is full now and then."""

    def __init__(self, directory: Path) -> None:
        self.full = False
        disk = self

        class FillableCache(Cache):
            def put_many(self, blobs: Iterable[Verified]) -> None:
                if disk.full:
                    raise CacheFull("no space left")
                super().put_many(blobs)

        self.cache = FillableCache(directory)

    def __call__(self) -> Cache:
        return self.cache


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that have passed for the keeper, in a list of one."""
    passed = [0.0]
    monkeypatch.setattr(cache_tier, "time", SimpleNamespace(monotonic=lambda: passed[0]))  # not for the cache's waits
    return passed


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


async def test_without_a_cache_everything_is_read_with_one_warning_and_nothing_fetched_for_each_page(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    desk, opener = Desk(tmp_path / "cache"), Opener(tmp_path / "cache")
    entries = [desk.put("small", SMALL), desk.put_large(), desk.put("unlisted", LARGE + b"!")]
    async with desk.source(opener) as source:
        assert [await read_in_pages(source, entry) for entry in entries] == [SMALL, LARGE, LARGE + b"!"]
        assert [await read_in_pages(source, entry) for entry in entries] == [SMALL, LARGE, LARGE + b"!"]
        assert source.cache is None
        assert [source.cached_chunks(entry)[0] for entry in entries] == [0, 0, 0]
    assert desk.fetched == 1 + 3 + 1
    assert opener.calls == 1
    assert len(warnings(caplog)) == 1
    assert str(tmp_path / "cache") in caplog.text


async def test_a_cache_that_can_be_opened_later_is_tried_now_and_then_and_used(tmp_path: Path, clock: list[float]):
    desk, opener = Desk(tmp_path / "cache"), Opener(tmp_path / "cache")
    entries = [desk.put(f"{number}", b"%d" % number) for number in range(9)]
    async with desk.source(opener) as source:
        for entry in entries[:4]:
            await source.read(entry, 0, 9)
            await settled(source)
        assert opener.calls == 1
        clock[0] += cache_tier.RETRY_S
        for entry in entries[4:6]:
            await source.read(entry, 0, 9)
            await settled(source)
        assert opener.calls == 2
        opener.refusing = False
        clock[0] += cache_tier.RETRY_S
        for entry in entries:
            await source.read(entry, 0, 9)
            await settled(source)
        assert opener.calls == 3
        assert source.cached_chunks(entries[-1]) == (1, 1)
    fetched = desk.fetched
    async with desk.source() as again:
        assert await again.read(entries[-1], 0, 9) == b"8"
    assert desk.fetched == fetched


async def test_a_disk_that_fills_up_and_is_emptied(
    tmp_path: Path, clock: list[float], caplog: pytest.LogCaptureFixture
):
    desk, disk = Desk(tmp_path / "cache"), Disk(tmp_path / "cache")
    entries = [desk.put(f"{number}", b"%d" % number) for number in range(20)]
    async with desk.source(disk) as source:

        async def kept(number: int) -> bool:
            assert await source.read(entries[number], 0, 9) == b"%d" % number
            await settled(source)
            return source.cached_chunks(entries[number]) == (1, 1)

        assert await kept(0)
        disk.full = True
        assert not await kept(1)
        assert not await kept(2)
        assert len(warnings(caplog)) == 1
        disk.full = False
        assert not await kept(3), "it is left alone for a while"
        clock[0] += cache_tier.RETRY_S
        assert await kept(4)
        disk.full = True
        assert not await kept(5)
        assert len(warnings(caplog)) == 1, "the log is not filled"
        disk.full = False
        clock[0] += cache_tier.WARN_AGAIN_S
        assert await kept(6)
        disk.full = True
        assert not await kept(7)
        assert len(warnings(caplog)) == 2


async def test_held_bytes_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cache_tier, "HELD_BYTES_ALONE", 2 * len(SMALL))
    desk = Desk(tmp_path / "cache")
    entries = [desk.put(f"{number}", SMALL[:-2] + b"%2d" % number) for number in range(20)]
    async with desk.source(Opener(tmp_path / "cache")) as source:
        for entry in entries:
            await read_in_pages(source, entry)
        assert source._tier._held.bytes <= cache_tier.HELD_BYTES_ALONE
        await read_in_pages(source, entries[-1])
        assert desk.fetched == len(entries)


async def test_a_blob_larger_than_what_may_be_held_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cache_tier, "HELD_BYTES_ALONE", 10)
    desk = Desk(tmp_path / "cache")
    entry = desk.put("small", SMALL)
    async with desk.source(Opener(tmp_path / "cache")) as source:
        for _ in range(2):
            assert await read_in_pages(source, entry) == SMALL
        assert desk.fetched == 1


async def test_large_blobs_in_temporary_files_are_few_and_go_with_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    desk = Desk(tmp_path / "cache")
    monkeypatch.setattr(cache_tier, "HELD_FILES", 4)
    entries = [desk.put(f"{number}", LARGE[:-1] + b"%d" % number) for number in range(cache_tier.HELD_FILES + 2)]
    async with desk.source(Opener(tmp_path / "cache")) as source:
        for entry in entries:
            assert (await source.read(entry, entry.size - 1, 9)).decode() == entry.logical_key
        assert len(source._tier._files) == cache_tier.HELD_FILES
        assert (await source.read(entries[0], entries[0].size - 1, 9)) == b"0"


async def test_a_large_blob_larger_than_the_caches_bound_is_read(tmp_path: Path):
    """It is dropped as soon as it is kept, and then fetched into a temporary file."""
    desk = Desk(tmp_path / "cache")
    entry = desk.put("unlisted", LARGE)

    class Tiny(Cache):
        def put_pieces(self, digest: Digest, pieces: object) -> None:
            for _ in pieces:  # type: ignore[attr-defined]  # dropped at once
                pass

    async with desk.source(lambda: Tiny(tmp_path / "cache")) as source:
        assert await read_in_pages(source, entry) == LARGE
    assert desk.fetched == 2


async def test_a_process_stopped_while_it_writes_to_the_cache_holds_up_no_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: list[float], caplog: pytest.LogCaptureFixture
):
    """More blobs than there are flights at a time: none of them may wait for the cache for ever."""
    monkeypatch.setattr(write_lock, "PATIENCE_S", 0.2)
    desk = Desk(tmp_path / "cache")
    blobs = {f"{number}": SMALL + b"%d" % number for number in range(80)}
    entries = {key: desk.put(key, data) for key, data in blobs.items()}
    later = desk.put("later", SMALL)
    async with desk.source() as source:
        with trio.fail_after(30), stopped(desk.directory):
            found: dict[str, bytes] = {}

            async def read(key: str) -> None:
                found[key] = await source.read(entries[key], 0, len(SMALL) + 9)

            async with trio.open_nursery() as nursery:
                for key in entries:
                    nursery.start_soon(read, key)
            assert found == blobs
            await settled(source)
            assert len(warnings(caplog)) == 1
        clock[0] += cache_tier.RETRY_S
        assert await source.read(later, 0, len(SMALL)) == SMALL
        await settled(source)
        assert source.cached_chunks(later) == (1, 1), "the cache is used again"
