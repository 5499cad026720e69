from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fusepkg_cache import Algorithm, BlobTooLarge, Cache, Cleared, Digest, bound, eviction, index_change, verified
from fusepkg_cache.eviction import Evictor
from fusepkg_cache.index_change import IndexChange
from fusepkg_cache.records import key_of

from tests.unit.cache.blobs import LARGE, SMALL, blob
from tests.unit.cache.evicting import shrink
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
    monkeypatch.setattr(index_change, "time", clock)
    monkeypatch.setattr("fusepkg_cache.cache.time", clock)
    monkeypatch.setattr(bound, "WALK_AGAIN_S", 1 << 40)  # real time is past the clock's
    return clock


@pytest.fixture
def cache(tmp_path: Path, clock: Clock) -> Iterator[Cache]:
    with Cache(tmp_path / "cache") as cache:
        yield cache


def used(cache: Cache, digest: Digest) -> int:
    entry = cache._directory().index.find(key_of(digest))
    return 0 if entry is None else entry.used


def keep_up(cache: Cache) -> None:
    """Do all the upkeep there is to do."""
    while cache._directory().bound.step():
        pass


def evictor_of(cache: Cache) -> Evictor:
    """One that has chosen nothing yet."""
    opened = cache._directory()
    return Evictor(opened.segments, opened.files, opened.pins, opened.recency)


def kept(cache: Cache, blobs: list[tuple[Digest, bytes]]) -> list[int]:
    return [number for number, (digest, _) in enumerate(blobs) if digest in cache]


def test_shrinking_drops_what_was_put_first(cache: Cache) -> None:
    for digest, data in SMALLS:
        cache.put(digest, data)
    assert shrink(cache, 18 * SMALL) == Cleared(2, 2 * SMALL)
    assert shrink(cache, 15 * SMALL) == Cleared(3, 3 * SMALL)
    assert kept(cache, SMALLS) == list(range(5, 20))
    assert cache.info().bytes == 15 * SMALL
    assert shrink(cache, 15 * SMALL) == Cleared(0, 0)


def test_shrinking_spares_what_was_read(cache: Cache) -> None:
    for digest, data in SMALLS + LARGES:
        cache.put(digest, data)
    for digest, data in (SMALLS[0], SMALLS[1], LARGES[0]):
        assert cache.get(digest) == data
    shrink(cache, 2 * SMALL + LARGE)
    assert kept(cache, SMALLS) == [0, 1]
    assert kept(cache, LARGES) == [0]
    assert shrink(cache, 0).blobs == 3
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
    shrink(cache, SMALL)
    assert kept(cache, SMALLS) == [0]


def test_a_use_soon_after_another_is_not_written(cache: Cache, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    digest, data = SMALLS[0]
    cache.put(digest, data)
    monkeypatch.setattr(clock, "time", lambda: clock.now + 5)
    first = used(cache, digest)
    cache.get(digest)
    cache._directory().recency.write()
    assert used(cache, digest) == first
    monkeypatch.setattr(clock, "time", lambda: clock.now + 600)
    cache.get(digest)
    cache._directory().recency.write()
    assert used(cache, digest) == first + 600


def test_a_note_of_a_dropped_blob_is_not_written(cache: Cache) -> None:
    digest, data = SMALLS[0]
    cache.put(digest, data)
    cache.get(digest)
    cache.remove(digest)
    cache._directory().recency.write()
    assert used(cache, digest) == 0


def test_many_notes_are_written_without_being_asked(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusepkg_cache.recency.NOTES", 3)
    for digest, data in SMALLS[:3]:
        cache.put(digest, data)
    before = [used(cache, digest) for digest, _ in SMALLS[:3]]
    for digest, _ in SMALLS[:3]:
        cache.get(digest)
    keep_up(cache)
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
    blobs = [blob(100, seed) for seed in range(100)]
    for digest, data in blobs:
        cache.put(digest, data)
    assert shrink(cache, 5000).bytes == 5000
    left = kept(cache, blobs)
    assert len(left) == 50
    assert sum(number >= 50 for number in left) > 30  # by samples, so not exactly in order: 25 would be by chance


def test_files_without_a_record_are_counted_and_dropped(tmp_path: Path, clock: Clock) -> None:
    with Cache(tmp_path / "cache") as cache:
        for digest, data in LARGES:
            cache.put(digest, data)
    (tmp_path / "cache" / "v2" / "index").unlink()
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
    (tmp_path / "cache" / "v2" / "index").unlink()
    shutil.rmtree(tmp_path / "cache" / "v2" / "segments")  # else the index is filled again from them
    with Cache(tmp_path / "cache") as cache:
        assert shrink(cache, LARGE) == Cleared(0, 0)
        assert cache.info().bytes == LARGE
        assert cache.verify().unrecorded == (LARGES[0][0],)
        cache.put(*LARGES[0])
        assert cache.verify().unrecorded == ()


def test_the_smallest_bound_of_a_process_counts(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    with Cache(directory) as one, Cache(directory, max_bytes=500), Cache(directory, max_bytes=900), Cache(directory):
        assert one._directory().bound.max_bytes == 500
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
        cache._directory().upkeep._tried()
    assert "cannot be kept within its bound" in caplog.text


def test_what_does_not_fit_at_all_is_refused_and_pushes_nothing_out(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache", max_bytes=LARGE - 1) as cache:
        cache.put(*SMALLS[0])
        for put in (
            lambda: cache.put(*LARGES[0]),
            lambda: cache.put_pieces(LARGES[0][0], [LARGES[0][1][:200], LARGES[0][1][200:]]),
            lambda: cache.put_many([verified(*LARGES[0])]),
        ):
            with pytest.raises(BlobTooLarge):
                put()
        assert kept(cache, SMALLS) == [0]
        assert cache.info().blobs == 1
        cache.put(SMALLS[1][0], SMALLS[1][1])


def test_what_is_put_makes_room_in_its_own_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bound.Bound, "step", lambda _: False)  # no background
    with Cache(tmp_path / "cache", max_bytes=10 * SMALL) as cache:
        for digest, data in SMALLS:
            cache.put(digest, data)
            assert cache.info().bytes <= 10 * SMALL * bound.HIGH_WATER
        cache.put_many([verified(*each) for each in SMALLS[:8]])
        assert cache.info().bytes <= 10 * SMALL * bound.HIGH_WATER


def test_a_cache_far_above_its_bound_does_not_make_a_put_wait_for_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Cache(tmp_path / "cache") as cache:
        for digest, data in SMALLS:
            cache.put(digest, data)
    monkeypatch.setattr(bound.Bound, "step", lambda _: False)
    with Cache(tmp_path / "cache", max_bytes=4 * SMALL) as cache:
        cache.put(*blob(SMALL, 100))
        assert cache.info().evictions == 2  # twice what was put


def test_pinned_blobs_are_not_evicted(cache: Cache) -> None:
    for digest, data in SMALLS + LARGES:
        cache.put(digest, data)
    cache.pin("mine", [SMALLS[0][0], LARGES[0][0], blob(SMALL, 50)[0]])
    assert shrink(cache, 0) == Cleared(22, 19 * SMALL + 3 * LARGE)
    assert kept(cache, SMALLS) == kept(cache, LARGES) == [0]
    cache.put(*blob(SMALL, 50))  # pinned before it was there
    cache.put(*blob(SMALL, 51))
    assert shrink(cache, 0).blobs == 1
    assert blob(SMALL, 50)[0] in cache
    assert cache.unpin("mine")
    assert shrink(cache, 0).blobs == 3


def test_pins_that_fill_the_bound_leave_room_for_nothing_else_but_no_put_fails(tmp_path: Path, clock: Clock) -> None:
    with Cache(tmp_path / "cache", max_bytes=10 * SMALL) as cache:
        cache.pin("all", [digest for digest, _ in SMALLS])
        for digest, data in SMALLS:
            cache.put(digest, data)
        for seed in range(100, 130):
            cache.put(*blob(SMALL, seed))
        assert kept(cache, SMALLS) == list(range(20))
        cache.unpin("all")
        keep_up(cache)
        assert cache.info().bytes <= 10 * SMALL


def test_what_is_being_read_goes_last(cache: Cache) -> None:
    """Its note is not written yet."""
    for digest, data in SMALLS:
        cache.put(digest, data)
    cache.get(SMALLS[0][0])
    index, evictor = cache._directory().index, evictor_of(cache)
    assert index.change(lambda change: evictor.drop(change, 15 * SMALL)) == [SMALL] * 5
    assert kept(cache, SMALLS) == [0, *range(6, 20)]
    index.change(lambda change: evictor.drop(change, 0, steps=20))
    assert kept(cache, SMALLS) == []


def test_room_that_cannot_be_made_fails_no_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Cache(tmp_path / "cache", max_bytes=2 * LARGE) as cache:
        monkeypatch.setattr(cache._directory().pins, "among", lambda _: os.stat(tmp_path / "nowhere"))
        for digest, data in LARGES:
            cache.put(digest, data)
        assert kept(cache, LARGES) == [0, 1, 2, 3]
        cache._directory().upkeep._tried()
    assert "cannot be kept within its bound" in caplog.text


def test_a_round_in_vain_is_not_repeated_at_once(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eviction, "SAMPLE", 4)
    for digest, data in SMALLS:
        cache.put(digest, data)
    cache.pin("all", [digest for digest, _ in SMALLS])
    index, evictor = cache._directory().index, evictor_of(cache)
    rounds = 0
    while not evictor.resting:
        assert index.change(lambda change: evictor.drop(change, 0)) == []
        rounds += 1
    assert rounds == 1  # 20 blobs are in one page
    cache.unpin("all")
    assert index.change(lambda change: evictor.drop(change, 0)) == []
    evictor.wake()
    assert index.change(lambda change: evictor.drop(change, 0, steps=100)) == [SMALL] * 20


def test_a_round_misses_nobody(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eviction, "SAMPLE", 3)
    digests = [blob(10, seed, algorithm)[0] for seed in range(100) for algorithm in Algorithm]
    for seed in range(100):
        for algorithm in Algorithm:
            cache.put(*blob(10, seed, algorithm))
    evictor = evictor_of(cache)
    found: set[bytes] = set()

    def look(change: IndexChange) -> None:
        for _ in range(change.header.pages):
            found.update(entry.key for entry in evictor._sample(change))

    cache._directory().index.change(look)
    assert found == {key_of(digest) for digest in digests}


def test_collecting_keeps_what_is_named_pinned_or_new(cache: Cache) -> None:
    for digest, data in SMALLS + LARGES:
        cache.put(digest, data)
    cache.pin("mine", [SMALLS[3][0], LARGES[3][0]])

    def named() -> Iterator[Digest]:
        cache.put(*blob(SMALL, 60))  # while it goes on
        cache.get(SMALLS[4][0])
        yield from (SMALLS[0][0], LARGES[0][0], blob(SMALL, 99)[0])

    dropped = cache.retain(named(), dry_run=True)
    assert dropped == Cleared(17 + 2, 17 * SMALL + 2 * LARGE)
    assert kept(cache, SMALLS) == list(range(20))
    cache.remove(blob(SMALL, 60)[0])
    assert cache.retain(named()) == dropped
    assert kept(cache, SMALLS) == [0, 3, 4]
    assert kept(cache, LARGES) == [0, 3]
    assert blob(SMALL, 60)[0] in cache
    assert cache.info().blobs == cache.verify().blobs == 6


def test_what_is_used_after_it_was_looked_at_is_not_collected(cache: Cache) -> None:
    for digest, data in SMALLS[:3]:
        cache.put(digest, data)
    opened = cache._directory()
    (run,) = opened.index.runs()
    cache.get(SMALLS[0][0])
    opened.recency.write()
    cache.remove(SMALLS[1][0])
    assert opened.index.change(lambda change: opened.evictor.drop_unused(change, run)) == [SMALL]
    assert kept(cache, SMALLS) == [0]


def test_clearing_what_was_unused(cache: Cache) -> None:
    for digest, data in SMALLS + LARGES:
        cache.put(digest, data)
    since = used(cache, SMALLS[10][0])
    cache.pin("mine", [SMALLS[0][0]])
    cache.get(SMALLS[1][0])
    assert cache.clear([SMALLS[2][0], SMALLS[15][0]], unused_since=since) == Cleared(1, SMALL)
    assert cache.clear(unused_since=since) == Cleared(7, 7 * SMALL)
    assert kept(cache, SMALLS) == [0, 1, *range(10, 20)]
    assert kept(cache, LARGES) == [0, 1, 2, 3]


def test_clearing_what_is_named_or_all_takes_pinned_blobs_too_and_leaves_the_pins(cache: Cache) -> None:
    cache.pin("mine", [SMALLS[0][0], LARGES[0][0]])
    for call in (lambda: cache.clear([SMALLS[0][0], LARGES[0][0]]), cache.clear):
        cache.put(*SMALLS[0])
        cache.put(*LARGES[0])
        assert call().blobs == 2
        assert [pin.name for pin in cache.pins()] == ["mine"]
    cache.put(*SMALLS[0])
    assert shrink(cache, 0).blobs == 0


def test_pins_outlive_the_index(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache") as cache:
        cache.pin("mine", [LARGES[0][0]])
        for digest, data in LARGES:
            cache.put(digest, data)
    (tmp_path / "cache" / "v2" / "index").unlink()
    with Cache(tmp_path / "cache") as cache:
        assert shrink(cache, 0).blobs == 3
        assert kept(cache, LARGES) == [0]
        assert cache.info().pins == 1


def test_sizes(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusepkg_cache.cache._SIZES_AT_ONCE", 3)
    cache.put(*SMALLS[0])
    cache.put(*LARGES[0])
    asked = [SMALLS[0][0], SMALLS[1][0], LARGES[0][0], LARGES[1][0], blob(0)[0], SMALLS[0][0]]
    cache.put(*blob(0))
    assert list(cache.sizes(iter(asked))) == [SMALL, None, LARGE, None, 0, SMALL]
    assert list(cache.sizes([])) == []


def test_counts_outlive_their_process_and_a_clear(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    with Cache(directory) as cache:
        cache.put(*SMALLS[0])
        cache.put(*LARGES[0])
        for _ in range(2):
            cache.get(SMALLS[0][0])
            cache.read(LARGES[0][0], 5, 10)
        cache.get(LARGES[0][0])
        cache.get(SMALLS[1][0])
        shrink(cache, LARGE)

    def counts(cache: Cache) -> tuple[int, ...]:
        info = cache.info()
        return (info.small_hits, info.large_hits, info.misses, info.evictions, info.evicted_bytes)

    with Cache(directory) as cache, Peer() as peer:
        assert counts(cache) == (2, 3, 1, 1, SMALL)
        peer.call("open", str(directory))
        peer.call("get", SMALLS[1][0])
        peer.call("get", LARGES[0][0])
        cache.clear()
        cache.get(SMALLS[1][0])
        peer.call("close")
        assert counts(cache) == (2, 4, 3, 1, SMALL)


def test_notes_are_written_after_a_while_without_being_asked(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusepkg_cache.recency.WRITE_AFTER_S", 0.01)
    cache.put(*SMALLS[0])
    before = used(cache, SMALLS[0][0])
    cache.get(SMALLS[0][0])
    counts, deadline = cache._directory().recency, time.monotonic() + 60
    while used(cache, SMALLS[0][0]) == before or counts.counts.small_hits:  # written by another thread, then let go
        assert time.monotonic() < deadline
    assert cache.info().small_hits == 1


def test_files_are_counted_in_the_background_without_a_bound_too(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache") as cache:
        assert cache.info().complete
        for digest, data in LARGES:
            cache.put(digest, data)
    (tmp_path / "cache" / "v2" / "index").unlink()
    with Cache(tmp_path / "cache") as cache:
        while not cache.info().complete:
            pass
        assert cache.info().large_bytes == 4 * LARGE
    with Cache(tmp_path / "cache") as cache:
        assert not cache._directory().bound.walk_due  # once, not with every process
        assert cache._directory().upkeep._thread is None


def test_one_process_counts_the_files(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache") as cache:
        cache.put(*LARGES[0])
        opened = cache._directory()
        walking = opened.finder.steps(opened.layout.blobs)
        next(walking)
        assert list(opened.finder.steps(opened.layout.blobs)) == []
        walking.close()
        assert len(list(opened.finder.steps(opened.layout.blobs))) == 1
