"""The one door to bytes: what it fetches, what it never gives out, what goes on when bucket or cache fail."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from fusepkg_cache import Cache, Verified
from fusepkg_cache.digest import MIN_CHUNK_BYTES, Algorithm, Digest, compute_digest
from fusepkg_cache.errors import CacheFull
from trio.testing import wait_all_tasks_blocked

from fusepkg.errors import AccessDenied, CacheFailure, DigestMismatch, ObjectMissing, RemoteUnavailable
from fusepkg.fetch.reader import EntryReader
from fusepkg.fetch.slots import SMALL_SLOTS
from fusepkg.model.entry import Entry
from fusepkg.model.physical_key import PhysicalKey
from fusepkg.registry.layout import chunk_list_key
from fusepkg.registry.manifests import get_chunk_list
from fusepkg.store.faulty import Fault, FaultyStore, Gate, flip, truncate
from fusepkg.store.memory import MemoryStore

CHUNK = MIN_CHUNK_BYTES
SMALL = bytes(range(256)) * 40
LARGE = bytes(CHUNK) + b"\1" * CHUNK + b"the end"


@dataclass
class Bench:
    """A bucket, a cache and the source between them."""

    store: FaultyStore
    cache: Cache
    source: EntryReader

    def put(self, key: str, data: bytes, *, algorithm: Algorithm = Algorithm.SHA2_256_CHUNKED) -> Entry:
        """Put an object, and give its entry; no chunk list."""
        self.store.inner.overwrite(key, data)
        return Entry(key, PhysicalKey("s3", "memory", key), len(data), compute_digest(algorithm, data))

    def put_large(self, key: str = "large") -> Entry:
        """Put ``LARGE``, with its chunk list."""
        entry = self.put(key, LARGE)
        chunks = [LARGE[at : at + CHUNK] for at in range(0, len(LARGE), CHUNK)]
        hashes = b"".join(compute_digest(Algorithm.SHA2_256, chunk).value for chunk in chunks)
        self.store.inner.overwrite(chunk_list_key(entry.digest), hashes)
        return entry

    async def settled(self) -> None:
        """Wait until all that was fetched is kept, or could not be."""
        with trio.fail_after(30):
            while self.source.under_way:
                await wait_all_tasks_blocked()

    @property
    def fetched(self) -> int:
        """GETs of data so far."""
        return sum(not key.startswith(".quilt/") for call, key in self.store.calls if call in ("get", "stream"))


@asynccontextmanager
async def bench(tmp_path: Path, make_cache: Callable[[Path], Cache] = Cache) -> AsyncIterator[Bench]:
    store = FaultyStore(MemoryStore())
    with make_cache(tmp_path / "cache") as cache:
        async with trio.open_nursery() as nursery:
            source = EntryReader(
                lambda: cache,
                lambda place: (store, place.key),
                lambda digest: get_chunk_list(store, digest),
                nursery,
                retry_timeout_s=0,
            )
            yield Bench(store, cache, source)
            source.close()


class FullCache(Cache):
    """A cache on a full disk."""

    def put_many(self, blobs: Iterable[Verified]) -> None:
        raise CacheFull("no space left")


# --- what is read is what was published ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 10), (0, len(SMALL)), (100, 50), (len(SMALL) - 1, 10), (len(SMALL), 1), (10**9, 1)]
)
async def test_any_range_of_a_small_blob_from_the_bucket_and_then_from_the_cache(
    tmp_path: Path, offset: int, length: int
):
    async with bench(tmp_path) as at:
        entry = at.put("small", SMALL)
        assert await at.source.read(entry, offset, length) == SMALL[offset : offset + length]
        await at.settled()
        fetched = at.fetched
        assert await at.source.read(entry, offset, length) == SMALL[offset : offset + length]
        assert at.fetched == fetched <= 1


@pytest.mark.parametrize(
    ("offset", "length", "gets"),
    [(0, 1, 1), (CHUNK - 2, 4, 2), (CHUNK, CHUNK, 1), (2 * CHUNK, 100, 1), (0, len(LARGE), 3), (len(LARGE), 1, 0)],
)
async def test_of_a_large_blob_only_the_touched_chunks_are_fetched(tmp_path: Path, offset: int, length: int, gets: int):
    async with bench(tmp_path) as at:
        entry = at.put_large()
        assert await at.source.read(entry, offset, length) == LARGE[offset : offset + length]
        assert at.fetched == gets
        assert at.source.counters.fetched_bytes <= gets * CHUNK


async def test_an_empty_blob_needs_no_bucket(tmp_path: Path):
    async with bench(tmp_path) as at:
        entry = at.put("empty", b"")
        assert await at.source.read(entry, 0, 100) == b""
        assert at.store.calls == []


@pytest.mark.parametrize("algorithm", list(Algorithm))
async def test_a_large_blob_without_a_chunk_list_is_fetched_whole_and_once(tmp_path: Path, algorithm: Algorithm):
    async with bench(tmp_path) as at:
        entry = at.put("large", LARGE, algorithm=algorithm)
        assert await at.source.read(entry, CHUNK - 2, 4) == LARGE[CHUNK - 2 : CHUNK + 2]
        assert await at.source.read(entry, 2 * CHUNK, 100) == b"the end"
        assert at.fetched == 1


# --- single flight -----------------------------------------------------------------------------------------------


async def test_readers_of_one_blob_share_one_get(tmp_path: Path):
    async with bench(tmp_path) as at:
        entry = at.put("small", SMALL)
        gate = Gate()
        at.store.add(Fault("get", gate=gate))
        got: list[bytes] = []

        async def reader(offset: int) -> None:
            got.append(await at.source.read(entry, offset, 10))

        async with trio.open_nursery() as readers:
            for offset in range(20):
                readers.start_soon(reader, offset)
            await trio.to_thread.run_sync(gate.wait_reached)
            await wait_all_tasks_blocked()
            gate.open()
        assert sorted(got) == sorted(SMALL[offset : offset + 10] for offset in range(20))
        assert at.fetched == 1
        assert at.source.counters.cache_misses == 20


# --- wrong bytes are never given out -----------------------------------------------------------------------------


@pytest.mark.parametrize("spoil", [flip(0), flip(-1), truncate(100), truncate(0), lambda data: data + b"!"])
async def test_wrong_bytes_are_fetched_once_more_and_then_an_error(
    tmp_path: Path, spoil: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
):
    async with bench(tmp_path) as at:
        entry = at.put("small", SMALL)
        at.store.add(Fault("get", spoil=spoil, times=1))
        assert await at.source.read(entry, 0, 10) == SMALL[:10], "the damage was in the transfer"
        await at.settled()
        at.cache.clear()
        at.store.add(Fault("get", spoil=spoil, times=None))
        with pytest.raises(DigestMismatch, match="s3://memory/small"):
            await at.source.read(entry, 0, 10)
        assert entry.digest not in at.cache
        counters = at.source.counters
        assert (counters.failed_fetches, counters.digest_mismatches, counters.wrong_answers) == (1, 1, 3)
        assert [record.levelname for record in caplog.records if "cannot read small" in record.message] == ["ERROR"]


async def test_a_wrong_chunk_is_an_error_and_the_others_are_not(tmp_path: Path):
    async with bench(tmp_path) as at:
        entry = at.put_large()
        at.store.inner.overwrite("large", LARGE[:CHUNK] + b"\2" + LARGE[CHUNK + 1 :])
        with pytest.raises(DigestMismatch):
            await at.source.read(entry, CHUNK + 50, 1)
        assert await at.source.read(entry, 2 * CHUNK, 7) == b"the end"


async def test_a_wrong_blob_without_a_chunk_list_is_an_error_and_not_kept(tmp_path: Path):
    async with bench(tmp_path) as at:
        entry = at.put("large", LARGE)
        at.store.inner.overwrite("large", LARGE[:-1] + b"!")
        with pytest.raises(DigestMismatch):
            await at.source.read(entry, 0, 1)
        assert at.cache.info().blobs == 0


async def test_a_chunk_list_of_another_blob_is_not_believed(tmp_path: Path):
    async with bench(tmp_path) as at:
        entry = at.put_large()
        key = chunk_list_key(entry.digest)
        at.store.inner.overwrite(key, flip(0)(at.store.inner.get(key)))
        assert await at.source.read(entry, 2 * CHUNK, 7) == b"the end"
        assert at.store.count("stream", "large") == 1, "fetched whole instead"


@pytest.mark.parametrize("wrong_by", [-1, 1])
async def test_an_object_of_the_right_hash_but_not_of_the_manifests_size_is_an_error(tmp_path: Path, wrong_by: int):
    async with bench(tmp_path) as at:
        sound = at.put("small", SMALL)
        entry = Entry("small", sound.physical_key, sound.size + wrong_by, sound.digest)
        with pytest.raises(DigestMismatch):
            await at.source.read(entry, 0, 10**6)


# --- a bucket that fails -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RemoteUnavailable("down"), AccessDenied("no"), ObjectMissing("gone")])
async def test_an_error_of_the_bucket_is_raised_counted_and_logged_with_both_names(
    tmp_path: Path, error: RemoteUnavailable, caplog: pytest.LogCaptureFixture
):
    async with bench(tmp_path) as at:
        entry = at.put("small", SMALL)
        at.store.add(Fault("get", error=error))
        with pytest.raises(type(error)):
            await at.source.read(entry, 0, 10)
        assert at.source.counters.failed_fetches == 1
        (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert "small" in record.message
        assert "s3://memory/small" in record.message
        assert await at.source.read(entry, 0, 10) == SMALL[:10], "nothing is remembered of it"


async def test_a_chunk_list_that_cannot_be_had_is_logged_like_any_failed_fetch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    async with bench(tmp_path) as at:
        entry = at.put_large()
        at.store.add(Fault("get", key=chunk_list_key(entry.digest), error=RemoteUnavailable("down")))
        with pytest.raises(RemoteUnavailable):
            await at.source.read(entry, 0, 10)
        assert at.source.counters.failed_fetches == 1
        assert any("large" in record.message for record in caplog.records if record.levelno == logging.ERROR)


async def test_without_permission_to_list_a_missing_chunk_list_reads_as_denied_and_the_blob_is_fetched_whole(
    tmp_path: Path,
):
    async with bench(tmp_path) as at:
        entry = at.put("large", LARGE)
        at.store.add(Fault("get", key=chunk_list_key(entry.digest), error=AccessDenied("denied"), times=None))
        assert await at.source.read(entry, 2 * CHUNK, 7) == b"the end"


async def test_a_stream_that_breaks_off_leaves_nothing_behind(tmp_path: Path):
    async with bench(tmp_path) as at:
        entry = at.put("large", LARGE)
        at.store.add(Fault("stream", error=RemoteUnavailable("cut"), afterwards=True))
        with pytest.raises(RemoteUnavailable):
            await at.source.read(entry, 0, 1)
        assert not [path for path in (tmp_path / "cache").rglob("staging/*/*") if path.is_file()]
        assert await at.source.read(entry, 0, 1) == LARGE[:1]


async def test_the_end_does_not_wait_for_a_bucket_that_does_not_answer(tmp_path: Path):
    gate = Gate()
    async with bench(tmp_path) as at:
        entry = at.put("small", SMALL)
        at.store.add(Fault("get", gate=gate))
        arrived, ended = trio.Event(), trio.Event()

        async def mount() -> None:
            async with trio.open_nursery() as nursery:
                source = EntryReader(lambda: at.cache, lambda place: (at.store, place.key), lambda _: [], nursery)
                nursery.start_soon(source.read, entry, 0, 10)
                await arrived.wait()
                nursery.cancel_scope.cancel()
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(mount)
            await trio.to_thread.run_sync(gate.wait_reached)
            arrived.set()
            await wait_all_tasks_blocked()
            waited = not ended.is_set()
            gate.open()
        assert not waited


# --- a cache that fails ------------------------------------------------------------------------------------------


async def test_a_full_cache_is_bypassed_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    async with bench(tmp_path, FullCache) as at:
        entry = at.put("small", SMALL)
        for offset in range(0, 1000, 100):
            assert await at.source.read(entry, offset, 100) == SMALL[offset : offset + 100]
            await at.settled()
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert at.source.counters.cache_failures > 0


async def test_without_a_cache_a_sequential_reader_does_not_fetch_a_chunk_for_each_of_its_reads(tmp_path: Path):
    async with bench(tmp_path, FullCache) as at:
        entry = at.put_large()
        for offset in range(0, CHUNK, 128 * 1024):
            await at.source.read(entry, offset, 128 * 1024)
            await at.settled()
        assert at.fetched <= 2


async def test_damage_in_the_cache_is_fetched_again(tmp_path: Path):
    async with bench(tmp_path) as at:
        entry = at.put_large()
        await at.source.read(entry, 0, len(LARGE))
        await at.settled()
        for blob in (tmp_path / "cache").rglob("blobs/*/*/*"):
            blob.write_bytes(b"\3" * blob.stat().st_size)
        assert await at.source.read(entry, CHUNK - 1, 2) == LARGE[CHUNK - 1 : CHUNK + 1]


async def test_a_cache_cleared_in_the_middle_of_reading_is_no_error(tmp_path: Path):
    async with bench(tmp_path) as at:
        entry = at.put_large()
        await at.source.read(entry, 0, len(LARGE))
        await at.settled()
        at.cache.clear()
        assert await at.source.read(entry, 0, len(LARGE)) == LARGE


async def test_a_large_blob_that_can_be_kept_nowhere_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))

    class Unwritable(Cache):
        def put_pieces(self, digest: Digest, pieces: object) -> None:
            raise CacheFull("no space left")

    async with bench(tmp_path, Unwritable) as at:
        entry = at.put("large", LARGE)
        with pytest.raises(CacheFailure, match="temporary file"):
            await at.source.read(entry, 0, 1)


async def test_a_slow_cache_holds_back_fetches(tmp_path: Path):
    """A network faster than the disk must not pile up in memory what waits for the disk."""
    gate = Gate()

    class SlowCache(Cache):
        def put_many(self, blobs: Iterable[Verified]) -> None:
            gate.pass_through()
            super().put_many(blobs)

    async with bench(tmp_path, SlowCache) as at:
        entries = [at.put(f"{number}", b"%d" % number) for number in range(200)]
        try:
            with trio.move_on_after(5):
                for entry in entries:
                    await at.source.read(entry, 0, 10)
            assert at.fetched <= SMALL_SLOTS
        finally:
            gate.open()


async def test_a_bug_in_keeping_bytes_costs_the_cache_only(tmp_path: Path):
    class Buggy(Cache):
        def put_many(self, blobs: Iterable[Verified]) -> None:
            raise RuntimeError("can't start new thread")

    async with bench(tmp_path, Buggy) as at:
        entry = at.put("small", SMALL)
        assert await at.source.read(entry, 0, 10) == SMALL[:10]
        await at.settled()
        assert await at.source.read(entry, 0, 10) == SMALL[:10]


# --- what is known -----------------------------------------------------------------------------------------------


async def test_how_much_of_an_entry_is_cached(tmp_path: Path):
    async with bench(tmp_path) as at:
        small, large, empty = at.put("small", SMALL), at.put_large(), at.put("empty", b"")
        assert [at.source.cached_chunks(entry) for entry in (small, large, empty)] == [(0, 1), (0, 3), (1, 1)]
        await at.source.read(small, 0, 1)
        await at.source.read(large, CHUNK, 1)
        await at.settled()
        assert [at.source.cached_chunks(entry) for entry in (small, large)] == [(1, 1), (1, 3)]


async def test_counters_tell_fetched_from_served(tmp_path: Path):
    async with bench(tmp_path) as at:
        entry = at.put("small", SMALL)
        await at.source.read(entry, 0, 10)
        await at.settled()
        await at.source.read(entry, 0, 10)
        facts = at.source.counters.as_dict()
    assert facts["fetched_objects"] == facts["cache_hits"] == facts["cache_misses"] == 1
    assert facts["fetched_bytes"] == len(SMALL)
    assert facts["served_bytes"] == 20
