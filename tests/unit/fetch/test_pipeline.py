"""One fetch for all readers, tried again while it may help; what fails or stalls is in the way of nothing else."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from fusepkg_cache import Cache, Verified
from fusepkg_cache.digest import Algorithm, compute_digest
from fusepkg_cache.errors import CacheReadOnly
from trio.testing import wait_all_tasks_blocked

from fusepkg.errors import AccessDenied, DigestMismatch, FusepkgError, ObjectMissing, RemoteError, RemoteUnavailable
from fusepkg.fetch import pipeline
from fusepkg.fetch.bucket import HASHING_THREADS
from fusepkg.fetch.reader import EntryReader
from fusepkg.fetch.slots import LARGE_SLOTS, SMALL_BYTES, SMALL_SLOTS
from fusepkg.model.entry import Entry
from fusepkg.model.physical_key import PhysicalKey
from fusepkg.registry.layout import chunk_list_key
from fusepkg.store.faulty import Fault, Gate, flip
from tests.unit.fetch.desk import CHUNK, LARGE, PAGE, SMALL, Desk, read_in_pages


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "cache", retry_timeout_s=30)


def no_cache() -> Cache:
    raise CacheReadOnly("no cache today")


class RustPanic(BaseException):
    """As pyo3 raises it: no Exception."""


# --- one fetch ---------------------------------------------------------------------------------------------------


async def test_a_reader_that_is_cancelled_fails_no_other(desk: Desk):
    entry, gate = desk.put("small", SMALL), Gate()
    desk.store.add(Fault("get", gate=gate))
    async with desk.source() as source, trio.open_nursery() as readers:
        first = trio.CancelScope()

        async def cancelled() -> None:
            with first:
                await source.read(entry, 0, 10)

        readers.start_soon(cancelled)
        await trio.to_thread.run_sync(gate.wait_reached)
        readers.start_soon(source.read, entry, 0, 10)
        await wait_all_tasks_blocked()
        first.cancel()
        gate.open()
    assert desk.fetched == 1


async def test_the_bytes_reach_the_reader_before_they_are_kept(desk: Desk):
    gate = Gate()

    class SlowCache(Cache):
        def put_many(self, blobs: Iterable[Verified]) -> None:
            gate.pass_through()
            super().put_many(blobs)

    entry = desk.put("small", SMALL)
    async with desk.source(lambda: SlowCache(desk.directory)) as source:
        for _ in range(3):
            assert await source.read(entry, 0, 10) == SMALL[:10]
        assert source.cached_chunks(entry) == (0, 1)
        gate.open()
    assert desk.fetched == 1


# --- tries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["small", "chunk", "list", "unlisted"])
async def test_an_outage_that_passes_is_not_seen(desk: Desk, kind: str, caplog: pytest.LogCaptureFixture):
    entry = desk.put("small", SMALL) if kind == "small" else desk.put_large()
    if kind == "unlisted":
        entry = desk.put("unlisted", LARGE)
    if kind == "list":
        desk.store.add(Fault("get", error=RemoteUnavailable("down"), times=2))
    elif kind != "unlisted":
        desk.store.add(Fault("get", key=entry.logical_key, error=RemoteUnavailable("down"), times=2))
    else:
        desk.store.add(Fault("stream", error=RemoteUnavailable("down"), times=1))
    async with desk.source() as source:
        assert await source.read(entry, 0, 10) == (SMALL if kind == "small" else LARGE)[:10]
        assert source.counters.failed_fetches == 0
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_an_outage_that_lasts_is_an_error_after_the_retry_timeout(desk: Desk):
    desk.retry_timeout_s = 0.25
    entry = desk.put("small", SMALL)
    desk.store.add(Fault("get", error=RemoteUnavailable("down"), times=None))
    async with desk.source() as source:
        with pytest.raises(RemoteUnavailable):
            await source.read(entry, 0, 10)
        assert source.counters.failed_fetches == 1
    assert desk.fetched >= 2


@pytest.mark.parametrize("error", [AccessDenied("no"), ObjectMissing("gone")])
async def test_what_will_not_pass_is_an_error_at_once(desk: Desk, error: AccessDenied):
    entry = desk.put("small", SMALL)
    desk.store.add(Fault("get", error=error, times=None))
    async with desk.source() as source:
        with pytest.raises(type(error)):
            await source.read(entry, 0, 10)
    assert desk.fetched == 1


@pytest.mark.parametrize("kind", ["small", "unlisted"])
async def test_whatever_a_library_raises_is_an_error_of_that_read_only(
    desk: Desk, kind: str, caplog: pytest.LogCaptureFixture
):
    entry = desk.put(kind, SMALL if kind == "small" else LARGE)
    other = desk.put("other", b"other")

    def panic(_: bytes) -> bytes:
        raise RustPanic("called `Result::unwrap()` on an `Err` value")

    desk.store.add(Fault("get" if kind == "small" else "stream", key=kind, spoil=panic))
    async with desk.source() as source:
        with pytest.raises(RemoteError, match=f"{kind}.*unwrap"):
            await source.read(entry, 0, 10)
        assert await source.read(other, 0, 10) == b"other"
        assert await source.read(entry, 0, 10) == desk.store.inner.get(kind, length=10)
    assert f"s3://memory/{kind}" in caplog.text


# --- what stalls -------------------------------------------------------------------------------------------------


async def test_stalled_requests_are_in_the_way_of_no_cached_read_and_soon_of_no_other(desk: Desk):
    cached, gate = desk.put("cached", SMALL), Gate()
    quick = desk.put("quick", b"quick")
    stalled = [desk.put(f"stalled{number}", b"%d" % number) for number in range(SMALL_SLOTS)]
    for entry in stalled:
        desk.store.add(Fault("get", key=entry.logical_key, gate=gate))
    async with desk.source() as source, trio.open_nursery() as readers:
        await source.read(cached, 0, 10)
        for entry in stalled:
            readers.start_soon(source.read, entry, 0, 10)
        await trio.to_thread.run_sync(gate.wait_reached, SMALL_SLOTS)
        assert source.read_cached(cached, 0, 10) == SMALL[:10]
        assert await source.read(quick, 0, 10) == b"quick"
        gate.open()


async def test_a_small_piece_without_an_answer_is_asked_for_again_beside_the_first_request(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pipeline, "AGAIN_S", 0.05)
    entry, gate = desk.put("small", SMALL), Gate()
    desk.store.add(Fault("get", gate=gate, times=1))
    async with desk.source() as source:
        assert await source.read(entry, 0, 10) == SMALL[:10]
        gate.open()
        assert source.counters.fetched_objects == 1
    assert desk.fetched == 2


async def test_stalled_large_objects_soon_are_in_the_way_of_no_other(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fusepkg.fetch.slots.SLOW_S", 0.05)
    data, gate = bytes(SMALL_BYTES + 1), Gate()
    stalled = [desk.put(f"stalled{number}", data + b"%d" % number) for number in range(3 * LARGE_SLOTS)]
    quick = desk.put("quick", data)
    for entry in stalled:
        desk.store.add(Fault("get", key=entry.logical_key, gate=gate))
    async with desk.source() as source, trio.open_nursery() as readers:
        for entry in stalled:
            readers.start_soon(source.read, entry, 0, 10)
        await trio.to_thread.run_sync(gate.wait_reached, len(stalled))
        assert await source.read(quick, 0, 10) == data[:10]
        gate.open()


async def test_stalled_chunk_lists_are_in_the_way_of_no_large_piece(desk: Desk):
    large, gate = desk.put_large(), Gate()
    place = PhysicalKey("s3", "memory", "stalled")
    stalled = [
        Entry(f"stalled{number}", place, CHUNK + 1, compute_digest(Algorithm.SHA2_256_CHUNKED, b"%d" % number))
        for number in range(HASHING_THREADS)
    ]
    for entry in stalled:
        desk.store.add(Fault("get", key=chunk_list_key(entry.digest), gate=gate))
    async with trio.open_nursery() as readers:
        try:
            async with desk.source(settle=False) as source:
                for entry in stalled:
                    readers.start_soon(source.read, entry, 0, 10)
                await trio.to_thread.run_sync(gate.wait_reached, HASHING_THREADS)
                with trio.fail_after(30):
                    assert await source.read(large, CHUNK, 10) == LARGE[CHUNK : CHUNK + 10]
                readers.cancel_scope.cancel()
        finally:
            gate.open()


async def test_the_end_fails_those_who_wait_and_waits_for_no_request(desk: Desk):
    entry, gate, failures = desk.put("small", SMALL), Gate(), []
    desk.store.add(Fault("get", gate=gate))

    async def read(source: EntryReader) -> None:
        try:
            await source.read(entry, 0, 10)
        except RemoteUnavailable as exc:
            failures.append(exc)

    try:
        async with trio.open_nursery() as readers, desk.source(settle=False) as source:
            readers.start_soon(read, source)
            await trio.to_thread.run_sync(gate.wait_reached)
        assert len(failures) == 1
        with pytest.raises(RemoteUnavailable):
            await source.read(entry, 0, 10)
    finally:
        gate.open()


# --- damage in the bucket ----------------------------------------------------------------------------------------


async def test_objects_found_missing_or_wrong_are_noted(desk: Desk):
    missing, wrong, sound, down = (desk.put(key, SMALL + key.encode()) for key in ("missing", "wrong", "sound", "down"))
    unlisted = desk.put("unlisted", LARGE)
    desk.store.inner.overwrite("unlisted", LARGE[:-1] + b"!")
    desk.store.add(
        Fault("get", key="missing", error=ObjectMissing("gone")),
        Fault("get", key="wrong", spoil=flip(3), times=2),
        Fault("get", key="down", error=RemoteUnavailable("down"), times=1),
    )
    async with desk.source() as source:
        for entry in (missing, wrong, sound, down, unlisted):
            with suppress(FusepkgError):
                await source.read(entry, 0, 10)
    assert desk.damaged == [PhysicalKey("s3", "memory", key) for key in ("missing", "wrong", "unlisted")]


async def test_objects_missing_or_wrong_are_fetched_from_where_they_lie_now(desk: Desk):
    small, large, unlisted = desk.put("small", SMALL), desk.put_large(), desk.put("unlisted", LARGE[1:])
    for entry, data in ((small, SMALL), (large, LARGE), (unlisted, LARGE[1:])):
        desk.put(f"new/{entry.logical_key}", data)
        desk.store.inner.overwrite(entry.physical_key.key, b"?" * len(data))
        desk.moved[entry.logical_key] = PhysicalKey("s3", "memory", f"new/{entry.logical_key}")
    desk.store.add(Fault("get", key="small", error=ObjectMissing("gone")))
    async with desk.source() as source:
        assert await source.read(small, 0, small.size) == SMALL
        assert await read_in_pages(source, large) == LARGE
        assert await source.read(unlisted, 5, 100) == LARGE[6:106]
        desk.moved.clear()
    assert set(desk.damaged) == {entry.physical_key for entry in (small, large, unlisted)}


async def test_an_object_that_is_damaged_where_it_lies_now_too_is_an_error(desk: Desk):
    entry, other = desk.put("a", SMALL), desk.put("b", SMALL[1:])
    desk.moved["a"] = other.physical_key
    desk.store.inner.overwrite("a", SMALL[2:])
    async with desk.source() as source:
        with pytest.raises(DigestMismatch, match="memory/b"):
            await source.read(entry, 0, 10)
    assert desk.damaged == [entry.physical_key, other.physical_key]


# --- without a cache ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cache", ["none", "small"])
async def test_many_readers_of_large_blobs_fetch_little_twice(desk: Desk, cache: str):
    """Each stands in a chunk of its own, and comes back to it with every page."""
    entries = []
    for number in range(12):
        data = (b"%3d" % number) * (CHUNK // 3 + 100)
        entries.append(desk.put(f"{number}", data[: CHUNK - 1]))
    open_cache = no_cache if cache == "none" else lambda: Cache(desk.directory, max_bytes=2 * CHUNK)
    async with desk.source(open_cache) as source, trio.open_nursery() as readers:

        async def read(number: int) -> None:
            wanted = (b"%3d" % number) * (PAGE // 3 + 1)
            for offset in range(0, CHUNK - 3 * PAGE, 3 * PAGE):
                data = await source.read(entries[number], offset, 3 * PAGE)
                assert data[: PAGE - 3] == wanted[: PAGE - 3]
                await trio.lowlevel.checkpoint()

        for number in range(len(entries)):
            readers.start_soon(read, number)
    assert desk.fetched < 1.5 * len(entries)


async def test_a_reader_in_order_gets_all_of_a_blob_once_ahead_of_it(desk: Desk):
    entry = desk.put_large()
    async with desk.source() as source:
        assert await read_in_pages(source, entry) == LARGE
        assert source.counters.cache_misses == 1, "the other chunks were there before they were asked for"
    assert desk.fetched == 3
