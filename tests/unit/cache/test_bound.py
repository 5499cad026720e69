from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fusepkg_cache import Cache, Cleared, Digest, bound, changes, eviction
from fusepkg_cache.records import key_of, used_from

from tests.unit.cache.blobs import LARGE, SMALL, blob
from tests.unit.cache.peer import Peer

SMALLS = [blob(SMALL, seed) for seed in range(20)]
LARGES = [blob(LARGE, seed) for seed in range(4)]


class Clock:
    """The time the cache notes uses with."""

    now = 1_000_000_000.0

    def time(self) -> float:
        self.now += 1000  # more than the resolution: no two uses are at the same time
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(changes, "time", clock)
    monkeypatch.setattr(bound, "WALK_AGAIN_S", 1 << 40)  # real time is past the clock's
    return clock


@pytest.fixture
def cache(tmp_path: Path, clock: Clock) -> Iterator[Cache]:
    with Cache(tmp_path / "cache") as cache:
        yield cache


def used(cache: Cache, digest: Digest) -> int:
    return cache._session().environment.view(
        lambda transaction, tables: used_from(transaction.get(key_of(digest), db=tables.used))
    )


def keep_up(cache: Cache) -> None:
    """Wait until the cache is within its bound; each change is followed by a step of upkeep."""
    session = cache._session()
    assert session.bound.max_bytes is not None
    while bound.held_bytes(session) > session.bound.max_bytes or session.bound._shrinking:
        session.commits.change(lambda changes: None)


def kept(cache: Cache, blobs: list[tuple[Digest, bytes]]) -> list[int]:
    return [number for number, (digest, _) in enumerate(blobs) if digest in cache]


def test_shrinking_drops_what_was_put_first(cache: Cache) -> None:
    for digest, data in SMALLS:
        cache.put(digest, data)
    assert cache.shrink(18 * SMALL) == Cleared(2, 2 * SMALL)
    assert cache.shrink(15 * SMALL) == Cleared(3, 3 * SMALL)
    assert kept(cache, SMALLS) == list(range(5, 20))
    assert cache.info().bytes == 15 * SMALL
    assert cache.shrink(15 * SMALL) == Cleared(0, 0)


def test_shrinking_spares_what_was_read(cache: Cache) -> None:
    for digest, data in SMALLS + LARGES:
        cache.put(digest, data)
    for digest, data in (SMALLS[0], SMALLS[1], LARGES[0]):
        assert cache.get(digest) == data
    cache.shrink(2 * SMALL + LARGE)
    assert kept(cache, SMALLS) == [0, 1]
    assert kept(cache, LARGES) == [0]
    assert cache.shrink(0).blobs == 3
    assert cache.info().blobs == cache.info().bytes == 0
    assert cache.verify().blobs == 0


def test_what_other_processes_read_is_spared_once_they_wrote_it(cache: Cache) -> None:
    for digest, data in SMALLS:
        cache.put(digest, data)
    clock_now = used(cache, SMALLS[0][0])
    with Peer() as peer:
        peer.call("open", str(cache.directory))
        assert peer.call("get", SMALLS[0][0]) == SMALLS[0][1]
        peer.call("close")
    assert used(cache, SMALLS[0][0]) > clock_now
    cache.shrink(SMALL)
    assert kept(cache, SMALLS) == [0]


def test_a_use_soon_after_another_is_not_written(cache: Cache, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    digest, data = SMALLS[0]
    cache.put(digest, data)
    monkeypatch.setattr(clock, "time", lambda: clock.now + 5)
    first = used(cache, digest)
    cache.get(digest)
    cache._session().recency.write()
    assert used(cache, digest) == first
    monkeypatch.setattr(clock, "time", lambda: clock.now + 600)
    cache.get(digest)
    cache._session().recency.write()
    assert used(cache, digest) == first + 600


def test_a_note_of_a_dropped_blob_is_not_written(cache: Cache) -> None:
    digest, data = SMALLS[0]
    cache.put(digest, data)
    cache.get(digest)
    cache.remove(digest)
    cache._session().recency.write()
    assert used(cache, digest) == 0


def test_many_notes_are_written_without_being_asked(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusepkg_cache.recency.NOTES", 3)
    for digest, data in SMALLS[:3]:
        cache.put(digest, data)
    before = [used(cache, digest) for digest, _ in SMALLS[:3]]
    for digest, _ in SMALLS[:3]:
        cache.get(digest)
    cache._session().commits.change(lambda changes: None)  # done after the notes
    assert all(used(cache, digest) > then for (digest, _), then in zip(SMALLS[:3], before, strict=True))


@pytest.mark.parametrize("blobs", [SMALLS, LARGES], ids=["small", "large"])
def test_a_bound_is_kept_by_putting(tmp_path: Path, clock: Clock, blobs: list[tuple[Digest, bytes]]) -> None:
    size = len(blobs[0][1])
    most = len(blobs) // 2 * size
    with Cache(tmp_path / "cache", max_bytes=most) as cache:
        for digest, data in blobs:
            cache.put(digest, data)
        keep_up(cache)
        left = kept(cache, blobs)
        assert left == list(range(len(blobs)))[-len(left) :]
        assert left
        assert all(cache.get(blobs[number][0]) == blobs[number][1] for number in left)
        assert cache.verify().bytes == cache.info().bytes == len(left) * size


def test_a_cache_of_many_blobs_is_shrunk_in_steps(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eviction, "SAMPLE", 8)
    chance = random.Random(3)
    monkeypatch.setattr("secrets.token_bytes", chance.randbytes)
    monkeypatch.setattr("secrets.choice", chance.choice)
    blobs = [blob(100, seed) for seed in range(100)]
    for digest, data in blobs:
        cache.put(digest, data)
    assert cache.shrink(5000).bytes == 5000
    left = kept(cache, blobs)
    assert len(left) == 50
    assert sum(number >= 50 for number in left) > 30  # by samples, so not exactly in order: 25 would be by chance


def test_files_without_a_record_are_counted_and_dropped(tmp_path: Path, clock: Clock) -> None:
    with Cache(tmp_path / "cache") as cache:
        for digest, data in LARGES:
            cache.put(digest, data)
    shutil.rmtree(tmp_path / "cache" / "v1" / "lmdb")
    with Cache(tmp_path / "cache", max_bytes=2 * LARGE) as cache:
        while not cache.info().complete:
            keep_up(cache)
        keep_up(cache)
        assert cache.info().large_bytes > 0
        assert cache.info().bytes == cache.verify().bytes <= 2 * LARGE
        for number in kept(cache, LARGES):
            assert cache.get(LARGES[number][0]) == LARGES[number][1]


def test_a_found_file_gets_its_full_record_when_put_again(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache") as cache:
        cache.put(*LARGES[0])
    shutil.rmtree(tmp_path / "cache" / "v1" / "lmdb")
    with Cache(tmp_path / "cache") as cache:
        assert cache.shrink(LARGE) == Cleared(0, 0)
        assert cache.info().bytes == LARGE
        assert cache.verify().unrecorded == (LARGES[0][0],)
        cache.put(*LARGES[0])
        assert cache.verify().unrecorded == ()


def test_the_smallest_bound_of_a_process_counts(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    with Cache(directory) as one, Cache(directory, max_bytes=500), Cache(directory, max_bytes=900), Cache(directory):
        assert one._session().bound.max_bytes == 500
    with pytest.raises(ValueError):
        Cache(directory, max_bytes=-1)


def test_upkeep_that_fails_is_told_and_the_cache_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> bool:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(bound.Bound, "_evict_more", fail)
    with Cache(tmp_path / "cache", max_bytes=SMALL) as cache:
        for digest, data in SMALLS:
            cache.put(digest, data)
        assert kept(cache, SMALLS)
    assert "cannot be kept within its bound" in caplog.text
