"""Clauses 5, 11 and 14 of ``cache/README.md``: many threads and processes on one cache, and blobs that go meanwhile."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fusepkg_cache import Cache, CacheClosed, Cleared, Digest

from tests.unit.cache.blobs import LARGE, SMALL, blob
from tests.unit.cache.evicting import shrink
from tests.unit.cache.peer import Peer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "cache") as cache:
        yield cache


@pytest.fixture(scope="module")
def peers() -> Iterator[Peer]:
    with Peer() as peer:
        yield peer


@pytest.fixture
def peer(peers: Peer, cache: Cache) -> Peer:
    """Another process with the same cache open."""
    peers.call("open", str(cache.directory))
    return peers


# --- 5: shared


def test_5_many_threads(cache: Cache) -> None:
    blobs = [blob(size, seed) for size in (SMALL, LARGE) for seed in range(20)]

    def work(number: int) -> None:
        for step in range(len(blobs)):
            digest, data = blobs[(number * 7 + step) % len(blobs)]
            cache.put(digest, data)
            assert cache.get(digest) in (data, None)
            assert cache.read(digest, 100, 1000) in (data[100:1100], None)
            if step % 5 == 0:
                cache.remove(digest)

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(work, number) for number in range(8)]:
            future.result()
    assert cache.verify().ok
    assert cache.info().verification_failures == 0


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_5_a_removed_blob_is_gone_for_all(cache: Cache, peer: Peer, size: int) -> None:
    digest, data = blob(size)
    cache.put(digest, data)
    assert peer.call("remove", digest) is True
    assert peer.call("remove", digest) is False
    assert cache.get(digest) is None
    assert cache.info().blobs == cache.info().bytes == 0


def test_5_clearing_some(cache: Cache) -> None:
    blobs = [blob(size, seed) for size in (SMALL, LARGE) for seed in range(3)]
    for digest, data in blobs:
        cache.put(digest, data)
    wanted = [blobs[0][0], blobs[3][0], blob(SMALL, 99)[0]]
    assert cache.clear(wanted) == Cleared(blobs=2, bytes=SMALL + LARGE)
    assert [digest in cache for digest, _ in blobs] == [False, True, True, False, True, True]


def test_5_clearing_all_while_others_use_it(cache: Cache, peer: Peer) -> None:
    blobs = [blob(size, seed) for size in (SMALL, LARGE) for seed in range(3)]
    for digest, data in blobs:
        cache.put(digest, data)
    assert peer.call("get", blobs[0][0]) == blobs[0][1]
    assert cache.clear() == Cleared(blobs=6, bytes=3 * (SMALL + LARGE))
    assert cache.info().blobs == peer.call("info") == 0
    for digest, data in blobs:
        assert peer.call("get", digest) is None
        peer.call("put", digest, data)
        assert cache.get(digest) == data
    assert peer.call("clear") == 6
    for digest, data in blobs:
        assert cache.get(digest) is None
        cache.put(digest, data)
        assert peer.call("get", digest) == data


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_5_what_is_put_after_another_process_cleared_is_found(cache: Cache, peer: Peer, size: int) -> None:
    cache.put(*blob(size, 1))
    peer.call("clear")
    peer.call("put", *blob(size, 2))
    assert cache.get(blob(size, 2)[0]) == blob(size, 2)[1]
    assert cache.get(blob(size, 1)[0]) is None


def test_5_clearing_sweeps_what_dead_processes_left(cache: Cache) -> None:
    with Peer() as dying:
        dying.call("open", str(cache.directory))
        dying.call("leave_unfinished", *blob(LARGE))
        dying.call("die")
    assert len(os.listdir(cache.directory / "v2" / "staging")) == 1
    cache.clear()
    assert os.listdir(cache.directory / "v2" / "staging") == []


def test_5_clearing_races_with_puts_and_gets(cache: Cache, peer: Peer) -> None:
    blobs = [blob(size, seed) for size in (SMALL, LARGE) for seed in range(5)]

    def work(number: int) -> None:
        for step in range(30):
            digest, data = blobs[(number + step) % len(blobs)]
            cache.put(digest, data)
            assert cache.get(digest) in (data, None)

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work, number) for number in range(4)]
        while not all(future.done() for future in working):
            cache.clear()
            peer.call("clear")
        for future in working:
            future.result()
    assert cache.verify(repair=True).damaged == ()
    cache.put(*blobs[0])
    assert peer.call("get", blobs[0][0]) == blobs[0][1]
    assert cache.info().verification_failures == 0


def work_forked(cache: Cache, number: int) -> None:
    """What a worker does with the cache it was forked with."""
    for step in range(20):
        for size in (SMALL, LARGE):
            cache.put(*blob(size, 100 * number + step))
            for digest, data in (blob(size, 100 * number + step), blob(size, step)):
                assert cache.get(digest) in (data, None)
        cache.remove(blob(LARGE, 100 * number + step)[0])
    assert cache.info().errors == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forks with threads: newer Pythons warn of what is tested
def test_5_forked_workers_share_while_their_parent_goes_on(cache: Cache) -> None:
    fork = multiprocessing.get_context("fork")
    cache.put(*blob(SMALL, 0))
    stop = threading.Event()

    def go_on() -> None:
        while not stop.is_set():
            for seed in range(20):
                cache.put(*blob(SMALL, seed))
                assert cache.get(blob(SMALL, seed)[0]) == blob(SMALL, seed)[1]

    with ThreadPoolExecutor(2) as pool:
        going = [pool.submit(go_on) for _ in range(2)]
        workers = [fork.Process(target=work_forked, args=(cache, number)) for number in range(1, 5)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        stop.set()
        for future in going:
            future.result()
    assert [worker.exitcode for worker in workers] == [0] * 4
    for number in range(1, 5):
        for step in range(20):
            digest, data = blob(SMALL, 100 * number + step)
            assert cache.get(digest) == data
    assert cache.verify().ok
    assert cache.info().errors == cache.info().verification_failures == 0


def test_5_a_closed_cache_says_so(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    cache.close()
    cache.close()
    digest, data = blob(SMALL)
    for call in (
        lambda: cache.get(digest),
        lambda: cache.read(digest, 0, 1),
        lambda: digest in cache,
        lambda: cache.put(digest, data),
        lambda: cache.remove(digest),
        lambda: cache.clear(),
        lambda: cache.info(),
        lambda: cache.verify(),
    ):
        with pytest.raises(CacheClosed):
            call()


# --- 11: bounded, if asked (what goes first: tests/unit/cache/test_bound.py)


def test_11_reads_go_on_while_blobs_are_evicted(tmp_path: Path) -> None:
    blobs = [blob(size, seed) for size in (SMALL, LARGE) for seed in range(10)]
    got = []
    with Cache(tmp_path / "cache", max_bytes=2 * LARGE) as cache:

        def put() -> None:
            for digest, data in blobs * 3:
                cache.put(digest, data)

        with ThreadPoolExecutor(2) as pool:
            putting = [pool.submit(put) for _ in range(2)]
            while not all(future.done() for future in putting):
                for digest, data in blobs:
                    found = cache.get(digest)
                    assert found in (data, None)
                    got.append((found, data))
            for future in putting:
                future.result()
        shrink(cache, 2 * LARGE)
        assert 0 < cache.info().bytes <= 2 * LARGE
        assert cache.info().verification_failures == cache.info().errors == 0
        assert cache.verify().ok
    assert all(found in (data, None) for found, data in got)


FILL = """
import random, sys
from pathlib import Path
from fusepkg_cache import Cache
from tests.unit.cache.blobs import blob

chance = random.Random(int(sys.argv[2]))
with Cache(Path(sys.argv[1]), max_bytes=int(sys.argv[3])) as cache:
    print("open", flush=True)
    for _ in range(int(sys.argv[4])):
        digest, data = blob(chance.choice([5_000, 20_000, 150_000]), chance.randrange(400))
        found = cache.get(digest)
        if found is None:
            cache.put(digest, data)
        assert found in (data, None)
    assert cache.info().errors == 0
"""


def test_11_the_bound_holds_while_several_processes_fill_the_cache(tmp_path: Path) -> None:
    bound = 8_000_000
    pinned = [blob(20_000, seed)[0] for seed in range(50)]
    with Cache(tmp_path / "cache") as cache:
        cache.pin("a pin", pinned[:25])
        filling = [
            subprocess.Popen(
                [sys.executable, "-c", FILL, str(cache.directory), str(number), str(bound), "400"],
                cwd=ROOT,
                stdout=subprocess.PIPE,
            )
            for number in range(4)
        ]
        seen: set[Digest] = set()
        most = 0
        while any(process.poll() is None for process in filling):
            most = max(most, cache.info().bytes)
            now = {digest for digest in pinned[:25] if digest in cache}
            assert seen <= now
            seen = now
        for process in filling:
            assert process.stdout is not None
            process.stdout.close()
            assert process.returncode == 0
        assert 0.9 * bound < most <= 1.05 * bound
        assert seen
        assert cache.info().evictions > 100
        assert cache.verify().ok


# --- 14: pinned


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_14_a_pin_holds_for_all_processes(cache: Cache, peer: Peer, size: int) -> None:
    there, later, other = (blob(size, seed) for seed in range(3))
    cache.put(*there)
    peer.call("pin", "of another process", [there[0], later[0]])
    cache.put(*later)
    cache.put(*other)
    assert shrink(cache, 0) == Cleared(1, size)
    assert peer.call("shrink_to", 0) == 0
    for digest, data in (there, later):
        assert cache.get(digest) == data
    assert [(pin.name, pin.blobs) for pin in cache.pins()] == [("of another process", 2)]
    assert cache.unpin("of another process")
    assert not peer.call("unpin", "of another process")
    assert peer.call("shrink_to", 0) == 2


def test_14_a_pin_is_replaced_as_a_whole(cache: Cache) -> None:
    blobs = [blob(SMALL, seed) for seed in range(3)]
    for digest, data in blobs:
        cache.put(digest, data)
    cache.pin("tag", [blobs[0][0], blobs[1][0]])
    cache.pin("another", [blobs[1][0]])
    cache.pin("tag", [blobs[2][0]])
    assert shrink(cache, 0).blobs == 1
    assert [digest in cache for digest, _ in blobs] == [False, True, True]
