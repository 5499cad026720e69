"""The cache under many processes at once, for long: nothing wrong, nothing lost, nothing fetched twice in vain."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from fusepkg_cache import Algorithm, Cache, Digest, verified

PROCESSES = 8
BLOBS = 10_000
SOAK_S = 60.0
KILLS = 200

_spawned = multiprocessing.get_context("spawn")


def contents(number: int) -> bytes:
    """One blob: mostly small, some above the limit of LMDB, so that both tiers are full."""
    seed = hashlib.sha256(number.to_bytes(8, "big")).digest()
    size = 200_000 + number if number % 50 == 0 else 1_000 + seed[0] * 64
    return (seed * (size // len(seed) + 1))[:size]


def digest_of(data: bytes) -> Digest:
    return Digest(Algorithm.SHA2_256, hashlib.sha256(data).digest())


def read_and_fill(directory: str, max_bytes: int, seed: int, answer: Connection) -> None:
    """Read blobs by chance, some of them far more often; what is missing is fetched, once for all processes."""
    chance = random.Random(seed)
    digests = [digest_of(contents(number)) for number in range(BLOBS)]
    fetched = reads = 0
    most = 0
    end = time.monotonic() + SOAK_S
    with Cache(Path(directory), max_bytes=max_bytes) as cache:
        while time.monotonic() < end:
            number = chance.randrange(BLOBS // 20) if chance.random() < 0.5 else chance.randrange(BLOBS)
            reads += 1
            data = cache.get(digests[number])
            if data is None:
                with cache.claim(digests[number], patience_s=600) as claim:
                    while not claim.take() and digests[number] not in cache:
                        time.sleep(claim.pause_s)
                    if digests[number] not in cache:
                        cache.put(digests[number], contents(number))
                        fetched += 1
            elif data != contents(number):
                answer.send(f"blob {number} has other bytes")
                return
            if reads % 200 == 0:
                most = max(most, cache.info().bytes)
    answer.send((reads, fetched, most))


@pytest.mark.stress
def test_eight_processes_share_a_cache_of_a_tenth_of_the_data(tmp_path: Path) -> None:
    total = sum(len(contents(number)) for number in range(BLOBS))
    max_bytes = total // 10
    before = cache_facts(tmp_path)
    answers = []
    for seed in range(PROCESSES):
        ours, theirs = _spawned.Pipe()
        process = _spawned.Process(target=read_and_fill, args=(str(tmp_path / "cache"), max_bytes, seed, theirs))
        process.start()
        theirs.close()
        answers.append((process, ours))
    results = [ours.recv() for _, ours in answers]
    for process, _ in answers:
        process.join()
    assert all(isinstance(result, tuple) for result in results), results
    assert all(process.exitcode == 0 for process, _ in answers)
    reads, fetched, _ = (sum(column) for column in zip(*results, strict=True))
    after = cache_facts(tmp_path)
    print(f"\n{reads:,} reads, {fetched:,} fetches, {after[1]:,} evictions of {total:,} bytes")
    assert reads > BLOBS, "they did something"
    assert max(most for _, _, most in results) <= max_bytes * 1.05
    # Whatever was fetched is there, or was evicted since: nothing was fetched twice, and nothing got lost.
    assert fetched == after[0] + after[1] - before[1]
    with Cache(tmp_path / "cache") as cache:
        assert cache.verify().damaged == ()


def cache_facts(tmp_path: Path) -> tuple[int, int]:
    """Blobs kept, and blobs evicted since the cache was made."""
    with Cache(tmp_path / "cache") as cache:
        facts = cache.info()
        return facts.blobs, facts.evictions


def fill(directory: str, seed: int) -> None:
    """Fill a bounded cache until somebody kills us."""
    chance = random.Random(seed)
    with Cache(Path(directory), max_bytes=4_000_000) as cache:
        while True:
            number = chance.randrange(BLOBS)
            data = contents(number)
            match chance.randrange(5):
                case 0:
                    cache.put_pieces(digest_of(data), [data[:500], data[500:]])
                case 1:
                    some = [contents(one) for one in range(number, min(number + 20, BLOBS))]
                    cache.put_many([verified(digest_of(one), one) for one in some])
                case 2:
                    cache.remove(digest_of(data))
                case _:
                    cache.put(digest_of(data), data)


@pytest.mark.stress
def test_two_hundred_kills_at_random_moments(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    chance = random.Random(7)
    forking = multiprocessing.get_context("fork")
    kept_ever = 0
    for number in range(KILLS):
        process = forking.Process(target=fill, args=(str(directory), number))
        process.start()
        time.sleep(chance.uniform(0.02, 0.4))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        with Cache(directory) as cache:  # at once: nothing is rebuilt before it answers
            some = [chance.randrange(BLOBS) for _ in range(200)]
            for one in some:
                data = cache.get(digest_of(contents(one)))
                assert data is None or data == contents(one)
                kept_ever += data is not None
            cache.put(digest_of(b"%d" % number), b"%d" % number)
            assert cache.get(digest_of(b"%d" % number)) == b"%d" % number
    assert kept_ever > KILLS, "the processes did fill it"
    with Cache(directory) as cache:
        assert cache.verify().damaged == ()
        held = [digest_of(contents(number)) in cache for number in range(BLOBS)]
        assert any(held)
        for number, is_held in enumerate(held):
            if is_held:
                assert cache.get(digest_of(contents(number))) == contents(number)
