"""Sources on one cache directory share their fetches; a lower cache is asked before the bucket."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest
import trio
from fusepkg_cache import Algorithm, Cache, Claim, Digest, compute_digest
from trio.testing import wait_all_tasks_blocked

from fusepkg.errors import RemoteUnavailable
from fusepkg.fetch import lower_cache
from fusepkg.fetch.reader import EntryReader
from fusepkg.fetch.slots import SMALL_SLOTS
from fusepkg.model.cache_names import cache_name, list_digest
from fusepkg.model.entry import Entry
from fusepkg.store.faulty import Fault, Gate
from tests.unit.fetch.desk import CHUNK, LARGE, SMALL, Desk, read_in_pages


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "cache")


class ShortOfPatience(Cache):
    """A cache whose users wait for no claim for long."""

    def claim(self, digest: Digest, *, patience_s: float = 0.05) -> Claim:
        return super().claim(digest, patience_s=patience_s)


# --- one fetch of all processes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["small", "large", "unlisted"])
async def test_sources_that_read_the_same_fetch_it_once(desk: Desk, kind: str):
    entry = {"small": lambda: desk.put("small", SMALL), "large": desk.put_large,
             "unlisted": lambda: desk.put("unlisted", LARGE)}[kind]()  # fmt: skip
    data = SMALL if kind == "small" else LARGE
    sources: list[EntryReader] = []

    async def reader(number: int) -> None:
        async with desk.source() as source:
            sources.append(source)
            for offset in (number * 1000 % len(data), 0, len(data) - 10):
                assert await source.read(entry, offset, 10) == data[offset : offset + 10]
            assert await source.read(entry, 0, len(data)) == data

    async with trio.open_nursery() as readers:
        for number in range(6):
            readers.start_soon(reader, number)
    calls = [key for call, key in desk.store.calls if call in ("get", "stream")]
    assert sum(key == entry.logical_key for key in calls) == {"small": 1, "large": 3, "unlisted": 1}[kind]
    if kind == "large":
        assert len(calls) == 4, "its list of chunks too"
    assert sum(source.counters.fetched_bytes for source in sources) == entry.size
    assert sum(source.counters.shared_objects for source in sources) > 0


async def test_a_fetch_that_fails_is_tried_by_who_waited(desk: Desk):
    entry = desk.put("small", SMALL)
    gate = Gate()
    desk.store.add(Fault("get", gate=gate, error=RemoteUnavailable("down")))
    failures: list[Exception] = []
    async with desk.source() as first, desk.source() as second, trio.open_nursery() as readers:

        async def fail() -> None:
            try:
                await first.read(entry, 0, 10)
            except RemoteUnavailable as exc:
                failures.append(exc)

        readers.start_soon(fail)
        await trio.to_thread.run_sync(gate.wait_reached)
        readers.start_soon(second.read, entry, 0, 10)
        gate.open()
    assert len(failures) == 1
    assert second.counters.fetched_objects == 1


async def test_a_holder_that_does_not_go_on_is_passed_by(desk: Desk):
    entry = desk.put("small", SMALL)
    with desk.open_cache() as other, other.claim(entry.digest) as claim:
        assert claim.take()
        async with desk.source(lambda: ShortOfPatience(desk.directory)) as source:
            assert await source.read(entry, 0, 10) == SMALL[:10]
    assert desk.fetched == 1


async def test_who_waits_for_others_takes_no_slot_from_other_reads(desk: Desk):
    entries = [desk.put(f"{number}", b"%d" % number) for number in range(2 * SMALL_SLOTS)]
    free = desk.put("free", SMALL)
    with desk.open_cache() as other:
        claims = [other.claim(entry.digest) for entry in entries]
        assert all(claim.take() and claim.held for claim in claims)
        async with desk.source() as source, trio.open_nursery() as readers:
            for entry in entries:
                readers.start_soon(source.read, entry, 0, 10)
            await wait_all_tasks_blocked()
            assert await source.read(free, 0, 10) == SMALL[:10]
            assert desk.fetched == 1
            for entry, claim in zip(entries, claims, strict=True):
                other.put(entry.digest, entry.logical_key.encode())
                claim.release()
        assert desk.fetched == 1
        assert source.counters.shared_objects == len(entries)


async def test_a_claim_is_given_back_when_the_bytes_are_kept(desk: Desk):
    entry = desk.put("small", SMALL)
    async with desk.source() as source:
        await source.read(entry, 0, 10)
    with desk.open_cache() as cache, cache.claim(entry.digest) as claim:
        assert claim.take()
        assert claim.held
        assert entry.digest in cache


# --- a lower cache -----------------------------------------------------------------------------------------------


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    """A directory that another machine shares, with ``SMALL``, and ``LARGE`` in chunks."""
    with Cache(tmp_path / "lower", small_limit_bytes=0) as cache:
        for algorithm in (Algorithm.SHA2_256, Algorithm.SHA2_256_CHUNKED):
            cache.put(compute_digest(algorithm, SMALL), SMALL)
        chunks = [LARGE[at : at + CHUNK] for at in range(0, len(LARGE), CHUNK)]
        digests = [compute_digest(Algorithm.SHA2_256, chunk) for chunk in chunks]
        for digest, chunk in zip(digests, chunks, strict=True):
            cache.put(digest, chunk)
        chunk_list = b"".join(digest.value for digest in digests)
        cache.put(compute_digest(Algorithm.SHA2_256, chunk_list), chunk_list)
    return tmp_path / "lower"


async def test_what_is_below_needs_no_bucket_and_is_kept(desk: Desk, lower: Path):
    entries = [desk.put("small", SMALL), desk.put_large()]
    async with desk.source(lambda: Cache(desk.directory, lower=lower)) as source:
        assert [await read_in_pages(source, entry) for entry in entries] == [SMALL, LARGE]
        assert desk.store.calls == []
        assert (source.counters.lower_objects, source.counters.lower_bytes) == (5, len(SMALL) + len(LARGE) + 3 * 32)
        assert source.counters.fetched_objects == 0
    async with desk.source() as again:
        assert [await read_in_pages(again, entry) for entry in entries] == [SMALL, LARGE]
    assert desk.store.calls == []


async def test_a_large_blob_below_that_has_no_chunk_list(desk: Desk, tmp_path: Path):
    entry = desk.put("unlisted", LARGE)
    with Cache(tmp_path / "lower") as cache:
        cache.put(entry.digest, LARGE)
    async with desk.source(lambda: Cache(desk.directory, lower=tmp_path / "lower")) as source:
        assert await read_in_pages(source, entry) == LARGE
        assert desk.fetched == 0
        assert source.cached_chunks(entry) == (3, 3)


async def test_nothing_is_fetched_from_the_lower_cache_on_the_loop(
    desk: Desk, lower: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its file system may hang: whatever asks without a checkpoint asks the upper tiers alone."""
    small, large = desk.put("small", SMALL), desk.put_large()
    async with desk.source(lambda: Cache(desk.directory, lower=lower)) as source:
        assert source.cache is not None
        monkeypatch.setattr(source.cache.lower, "give", None)
        for entry in (small, large):
            assert source.read_cached(entry, 0, 10) is None
            assert source.cached_chunks(entry)[0] == 0


@pytest.mark.parametrize("kind", ["small", "large", "unlisted"])
async def test_damage_below_is_fetched_from_the_bucket(
    desk: Desk, lower: Path, kind: str, caplog: pytest.LogCaptureFixture
):
    data = LARGE[:-1] + b"?" if kind == "unlisted" else LARGE if kind == "large" else SMALL
    entry = desk.put_large() if kind == "large" else desk.put(kind, data)
    if kind == "unlisted":
        with Cache(lower) as cache:
            cache.put(entry.digest, data)
    for path in lower.rglob("blobs/*/*/*"):
        path.chmod(0o600)
        path.write_bytes(b"\7" * path.stat().st_size)
    async with desk.source(lambda: Cache(desk.directory, lower=lower)) as source:
        assert await read_in_pages(source, entry) == data
        assert source.counters.lower_objects == 0
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


@pytest.mark.parametrize("kind", ["small", "unlisted"])
async def test_a_lower_cache_that_hangs_is_left_alone(
    desk: Desk, lower: Path, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(lower_cache, "TIMEOUT_S", 0.05)
    entries = [desk.put(f"{number}", (SMALL if kind == "small" else LARGE) + b"%d" % number) for number in range(4)]
    server_is_back, asked = threading.Event(), []

    def hang(*_: object, **__: object) -> None:
        asked.append(threading.get_ident())
        server_is_back.wait()

    try:
        async with desk.source(lambda: Cache(desk.directory, lower=lower)) as source:
            assert source.cache is not None
            monkeypatch.setattr(source.cache.lower, "give", hang)
            for entry in entries:
                assert await source.read(entry, entry.size - 1, 9) == entry.logical_key.encode()
            assert desk.fetched == len(entries)
            assert len(asked) == 1
            assert threading.get_ident() not in asked
    finally:
        server_is_back.set()
    assert [record.message for record in caplog.records if "lower" in record.message] == [
        "the lower cache does not answer; the bucket is asked instead"
    ]


async def test_a_slow_lower_cache_is_waited_for_as_long_as_it_gives_something(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lower_cache, "TIMEOUT_S", 0.5)
    entry = desk.put("unlisted", LARGE)
    with Cache(tmp_path / "lower") as cache:
        cache.put(entry.digest, LARGE)
    async with desk.source(lambda: Cache(desk.directory, lower=tmp_path / "lower")) as source:
        assert source.cache is not None
        lower = source.cache.lower
        assert lower is not None
        give = lower.give

        def give_slowly(digest, taken_by, *, size=None):
            def take_slowly(size, pieces):
                def slowly():
                    for piece in pieces:
                        threading.Event().wait(0.05)
                        yield piece

                return taken_by(size, slowly())

            return give(digest, take_slowly, size=size)

        monkeypatch.setattr(lower, "give", give_slowly)
        assert await source.read(entry, 0, 10) == LARGE[:10]
    assert desk.fetched == 0


# --- names that prove nothing ------------------------------------------------------------------------------------


def forged(data: bytes) -> bytes:
    """These bytes and eight more, that have the same CRC-64/NVME as all that are made so."""
    crc = compute_digest(Algorithm.CRC64NVME, data).computed
    return data + bytes(reversed(crc))


@pytest.mark.parametrize("size", [100, CHUNK + 100])
async def test_objects_with_one_checksum_are_never_taken_for_each_other(desk: Desk, size: int):
    mine, theirs = forged(b"m" * size), forged(b"t" * size)
    entries = [desk.put(key, data, algorithm=Algorithm.CRC64NVME) for key, data in (("a", mine), ("b", theirs))]
    assert entries[0].digest == entries[1].digest
    assert mine != theirs
    for _ in range(2):
        async with desk.source() as source:
            for entry, data in zip(entries, (mine, theirs), strict=True):
                assert await source.read(entry, 0, size * 2) == data
                assert await source.read(entry, size - 1, 9) == data[-9:]
    assert desk.fetched == 2
    assert len({cache_name(entry) for entry in entries}) == 2


async def test_a_blob_is_named_by_its_checksum_and_its_address(desk: Desk):
    entry = desk.put("a", SMALL, algorithm=Algorithm.CRC64NVME)
    strong = desk.put("a", SMALL)
    other_size = Entry(entry.logical_key, entry.physical_key, entry.size + 1, entry.digest)
    elsewhere = Entry("b", entry.physical_key, entry.size, entry.digest)
    assert cache_name(strong) == strong.digest
    assert cache_name(entry).matches(entry.digest)
    assert cache_name(entry) != entry.digest
    assert cache_name(entry) != cache_name(other_size)
    assert cache_name(entry) == cache_name(elsewhere), "the logical key says nothing of the object"
    assert list_digest(entry) is None
