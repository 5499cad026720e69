"""Claims: of all threads and processes that miss a blob one fetches it, and none waits for ever."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from fusepkg_cache import Algorithm, Cache, Claim, Digest, claims

from tests.unit.cache.blobs import SMALL, blob

DIGEST, DATA = blob(SMALL)
LONG_S = 600
"""Patience that no test outlasts."""

HOLD = """
import sys
from pathlib import Path
from fusepkg_cache import Algorithm, Cache, Digest

directory, *names = sys.argv[1:]
cache = Cache(Path(directory))
held = [cache.claim(Digest(Algorithm.SHA2_256, bytes.fromhex(name))) for name in names]
print(all(claim.take() and claim.held for claim in held), flush=True)
for line in sys.stdin:
    for claim in held:
        claim.beat()
    print("beaten", flush=True)
"""


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "cache") as cache:
        yield cache


@contextmanager
def holder(cache: Cache, *digests: Digest) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds claims, until it is killed or the block ends."""
    command = [sys.executable, "-c", HOLD, str(cache.directory), *(digest.hex for digest in digests)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def later() -> Iterator[Callable[[], None]]:
    """``later()`` makes the clock of claims go on by an hour."""
    with pytest.MonkeyPatch.context() as patch:
        past = 0.0

        def pass_an_hour() -> None:
            nonlocal past
            past += 3600
            patch.setattr(claims.time, "monotonic", lambda: time.perf_counter() + past)

        pass_an_hour()
        yield pass_an_hour


def waited(cache: Cache, claim: Claim) -> bool:
    """Wait until the blob is kept (False), or to be fetched (True)."""
    while not claim.take():
        time.sleep(claim.pause_s)
        if claim.digest in cache:
            return False
    return claim.digest not in cache


def taken(cache: Cache, digest: Digest = DIGEST) -> bool:
    """Whether a claim can be had just now."""
    with cache.claim(digest, patience_s=LONG_S) as claim:
        return claim.take() and claim.held


def test_12_one_claim_at_a_time_in_one_thread_or_many(cache: Cache) -> None:
    with cache.claim(DIGEST) as claim, cache.claim(DIGEST, patience_s=LONG_S) as other:
        assert claim.take()
        assert claim.take(), "it is ours already"
        assert not other.take()
        assert taken(cache, blob(SMALL, 1)[0]), "other blobs are not concerned"
        claim.release()
        claim.release()
        assert other.take()
        assert not taken(cache)
    assert taken(cache)


def test_12_names_with_the_same_value_are_other_blobs(cache: Cache) -> None:
    """A chunked blob's list of chunks is named by the blob's own value."""
    with cache.claim(Digest(Algorithm.SHA2_256, DIGEST.value)) as claim:
        assert claim.take()
        assert taken(cache, Digest(Algorithm.SHA2_256_CHUNKED, DIGEST.value))


def test_12_of_many_threads_one_fetches(cache: Cache) -> None:
    fetched, got = [], []

    def read() -> None:
        with cache.claim(DIGEST, patience_s=LONG_S) as claim:
            if waited(cache, claim):
                fetched.append(threading.get_ident())
                cache.put(DIGEST, DATA)
        got.append(cache.get(DIGEST))

    threads = [threading.Thread(target=read) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fetched) == 1
    assert got == [DATA] * 16


def test_12_the_claim_of_another_process_ends_with_kill_9(cache: Cache) -> None:
    with holder(cache, DIGEST) as process:
        assert not taken(cache)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert taken(cache)


def test_12_a_holder_that_is_stopped_costs_patience_once(cache: Cache, later: Callable[[], None]) -> None:
    others = [blob(SMALL, seed)[0] for seed in range(1, 5)]
    with holder(cache, DIGEST, *others) as process:
        process.send_signal(signal.SIGSTOP)
        with cache.claim(DIGEST) as claim:
            assert not claim.take()
            later()
            assert claim.take()
            assert not claim.held
        for digest in others:
            with cache.claim(digest) as claim:
                assert claim.take(), "nobody is waited for, for a while"
        later()
        assert not taken(cache), "later on holders are waited for again"


def test_12_a_holder_that_shows_life_is_waited_for(cache: Cache, later: Callable[[], None]) -> None:
    with holder(cache, DIGEST) as process, cache.claim(DIGEST) as claim:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(4):
            assert not claim.take()
            process.stdin.write("beat\n")
            process.stdin.flush()
            process.stdout.readline()
            later()
            assert not claim.take(), "it has gone on since"
        later()
        assert claim.take()


def test_12_waiting_ends_where_the_blob_is_kept_though_the_claim_is_held(cache: Cache) -> None:
    with cache.claim(DIGEST) as claim, cache.claim(DIGEST, patience_s=LONG_S) as waiting:
        assert claim.take()
        cache.put(DIGEST, DATA)
        assert waited(cache, waiting) is False


def test_12_a_claim_comes_too_late_for_a_blob_kept_meanwhile(cache: Cache) -> None:
    with cache.claim(DIGEST) as claim:
        cache.put(DIGEST, DATA)
        assert waited(cache, claim) is False


def test_12_a_deleted_file_of_claims_is_made_again(cache: Cache) -> None:
    with cache.claim(DIGEST) as claim:
        assert claim.take()
        (cache.directory / "v2" / "claims").unlink()
        with cache.claim(DIGEST) as other:
            assert other.take()
            assert not taken(cache)
    assert taken(cache)


@pytest.mark.parametrize("hindrance", ["a directory in its place", "no directory", "no descriptor left"])
def test_12_where_there_can_be_no_claims_everybody_fetches(cache: Cache, hindrance: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if hindrance == "a directory in its place":
            (cache.directory / "v2" / "claims").mkdir()
        elif hindrance == "no directory":
            (cache.directory / "v2").rename(cache.directory / "moved")
        else:
            patch.setattr(claims.Claims, "open", lambda self: os.open("/dev/null/none", os.O_RDONLY))
        for _ in range(2):
            claim = cache.claim(DIGEST, patience_s=LONG_S)
            assert claim.take()
            assert not claim.held
            claim.beat()
            claim.release()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a read-only file system")
def test_12_a_cache_that_became_read_only_has_no_claims(cache: Cache) -> None:
    cache.put(DIGEST, DATA)
    subprocess.run(["mount", "--bind", cache.directory, cache.directory], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", cache.directory], check=True)
        with cache.claim(blob(SMALL, 1)[0]) as claim:
            assert waited(cache, claim) is True
            assert not claim.held
    finally:
        subprocess.run(["umount", cache.directory], check=True)


def _child_of_a_holder(claim: Claim, pipe: Connection) -> None:
    claim.beat()
    claim.release()  # the parent's: not ours to give back
    pipe.send(claim.held)
    pipe.recv()


def test_12_a_forked_child_holds_nothing_and_gives_nothing_back(cache: Cache) -> None:
    ours, theirs = multiprocessing.Pipe()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # Python 3.12 warns of forks with threads
        with cache.claim(DIGEST) as claim:
            assert claim.take()
            child = multiprocessing.get_context("fork").Process(target=_child_of_a_holder, args=(claim, theirs))
            child.start()
            assert ours.recv() is False
            assert claim.held
            assert not taken(cache)
        assert taken(cache), "though the child lives"
        ours.send(None)
        child.join()


def _fork_and_die(directory: Path, pipe: Connection) -> None:
    with Cache(directory) as cache:
        assert cache.claim(DIGEST).take()
        if not os.fork():
            pipe.send(os.getpid())  # by now it has let go of what it inherited
            signal.pause()
        os.kill(os.getpid(), signal.SIGKILL)


def test_12_a_child_that_outlives_a_killed_holder_keeps_no_claim(cache: Cache) -> None:
    ours, theirs = multiprocessing.Pipe()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)
        parent = multiprocessing.get_context("spawn").Process(target=_fork_and_die, args=(cache.directory, theirs))
        parent.start()
        child = ours.recv()
        parent.join()
    try:
        assert taken(cache)
    finally:
        os.kill(child, signal.SIGKILL)
