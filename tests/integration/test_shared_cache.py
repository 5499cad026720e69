"""Mounts and programs on one cache: each object is fetched once, whoever is stopped or killed meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import trio
from fusepkg_cache import Algorithm, Cache, compute_digest

from fusepkg.engines import kernel
from fusepkg.fetch import cache_tier, lower_cache
from tests.command import Fusepkg
from tests.mount.mounting import mounted
from tests.proxy import Proxy, Stall
from tests.rgw import Gateway
from tests.trees import content
from tests.unit.cache import fuse_disk
from tests.unit.fetch.desk import LARGE, Desk, read_in_pages

MIB = 1 << 20

FILES = {f"small/{number}.bin": content(f"small{number}", 700 * number + 1) for number in range(30)} | {
    "listed.bin": content("listed", 17 * MIB),
    "unlisted.bin": content("unlisted", 9 * MIB),
}
"""``listed.bin`` has three chunks; the chunk list of ``unlisted.bin`` is lost."""

READER = """
import hashlib, json, sys
from fusepkg_cache import Cache
from fusepkg import Package

reference, patience_s = sys.argv[1:]
Cache.claim.__kwdefaults__["patience_s"] = float(patience_s)
package = Package(reference)
print("ready", flush=True)
for line in sys.stdin:
    print(hashlib.sha256(package.get(json.loads(line))).hexdigest(), flush=True)
"""

PATIENCE_S = 600
"""More than any test takes: whoever loses it fails."""


class Reader:
    """A program that reads entries of a package when told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ask(self, key: str) -> None:
        assert self.process.stdin is not None
        print(json.dumps(key), file=self.process.stdin, flush=True)

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def read_all(self, keys: list[str]) -> list[str]:
        for key in keys:
            self.ask(key)
        return [self.answer() for _ in keys]


IN_A_CONTAINER = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child=SIGKILL")
"""As the first process of a PID namespace, and root of a user namespace, of its own."""


@contextmanager
def reader(reference: str, *, patience_s: float = PATIENCE_S, before: tuple[str, ...] = ()) -> Iterator[Reader]:
    """A process with the package open, until the block ends."""
    command = [*before, sys.executable, "-c", READER, reference, str(patience_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            started = Reader(process)
            assert started.answer() == "ready"
            yield started
        finally:
            process.kill()
            with suppress(BrokenPipeError):
                process.communicate()


def hashes(keys: list[str]) -> list[str]:
    return [hashlib.sha256(FILES[key]).hexdigest() for key in keys]


def wait_until_kept(key: str) -> None:
    """Wait until the cache has an entry: a reader gets its bytes before they are on the disk."""
    digest = compute_digest(Algorithm.SHA2_256_CHUNKED, FILES[key])
    deadline = time.monotonic() + 30
    with Cache(Path(os.environ["FUSEPKG_CACHE_DIR"]) / "blobs") as cache:
        while digest not in cache:
            assert time.monotonic() < deadline, f"{key} is not kept after 30 s"
            time.sleep(0.01)


def publish(fusepkg: Fusepkg, folder: Path, reference: str) -> None:
    for key, data in FILES.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    fusepkg("push", folder, reference)


@pytest.fixture
def package(s3: Gateway, proxy: Proxy, fusepkg: Fusepkg, tmp_path: Path) -> str:
    """A reference to ``FILES`` behind the proxy, whose log is empty."""
    bucket = s3.bucket()
    publish(fusepkg, tmp_path / "folder", f"{bucket}/data:v1")
    lists = s3.s3.list_objects_v2(Bucket=bucket, Prefix=".quilt/chunks/")["Contents"]
    (unlisted,) = [found["Key"] for found in lists if found["Size"] == 2 * 32]
    s3.s3.delete_object(Bucket=bucket, Key=unlisted)
    proxy.forget()
    return f"{bucket}/data:v1"


def gets(proxy: Proxy) -> dict[str, int]:
    """How often each piece of each data object, and each chunk list, was got."""
    counts: dict[str, int] = {}
    for request in proxy.requests:
        if request.operation == "GetObject" and (
            request.key.startswith("data/") or request.key.startswith(".quilt/chunks/")
        ):
            piece = f"{request.key} {request.range}"
            counts[piece] = counts.get(piece, 0) + (request.status < 400)
    return counts


# --- one fetch ---------------------------------------------------------------------------------------------------


@pytest.mark.s3
def test_programs_that_read_a_package_at_once_get_each_object_once(package: str, proxy: Proxy) -> None:
    keys = list(FILES)
    with ExitStack() as ending, ThreadPoolExecutor(4) as pool:
        readers = [ending.enter_context(reader(package)) for _ in range(4)]
        orders = [random.Random(number).sample(keys, len(keys)) for number in range(2)] * 2  # two pairs in step
        answers = list(pool.map(lambda one, order: one.read_all(order), readers, orders))
    for order, answer in zip(orders, answers, strict=True):
        assert answer == hashes(order)
    assert set(gets(proxy).values()) == {0, 1}, "0: the list that is not there"
    assert sum(gets(proxy).values()) == 30 + 1 + 3 + 1


@pytest.mark.s3
@pytest.mark.fuse
def test_mounts_and_programs_share_their_fetches(package: str, proxy: Proxy, tmp_path: Path) -> None:
    if kernel.why_no_fuse() is not None:
        pytest.skip(f"the fuse engine cannot run: {kernel.why_no_fuse()}")
    keys = list(FILES)
    with ExitStack() as ending, ThreadPoolExecutor(3) as pool:
        mounts = [ending.enter_context(mounted(package, tmp_path / f"m{number}", "fuse")) for number in range(2)]
        program = ending.enter_context(reader(package))
        reading = [pool.submit(lambda mount=mount: [(mount / key).read_bytes() for key in keys]) for mount in mounts]
        asked = pool.submit(program.read_all, keys)
        assert [future.result() for future in reading] == [[FILES[key] for key in keys]] * 2
        assert asked.result() == hashes(keys)
        counters = [mount.counters for mount in mounts]
    assert set(gets(proxy).values()) == {0, 1}
    assert sum(one["fetched_bytes"] for one in counters) <= sum(map(len, FILES.values()))
    assert all(one["failed_fetches"] == 0 for one in counters)


@pytest.mark.s3
def test_containers_share_a_cache_directory(package: str, proxy: Proxy) -> None:
    """Two PID and user namespaces. Each reader is process 1 of its own: numbers do not say who fetches what."""
    if subprocess.run([*IN_A_CONTAINER, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs user namespaces")
    *keys, last = FILES
    with (
        reader(package, before=IN_A_CONTAINER) as first,
        reader(package, before=IN_A_CONTAINER) as second,
        ThreadPoolExecutor(2) as pool,
    ):
        answers = list(pool.map(lambda one: one.read_all(keys), (first, second)))
        assert answers == [hashes(keys)] * 2
        assert set(gets(proxy).values()) == {1}

        proxy.fail(Stall(), operation="GetObject", key=f"data/{last}")
        first.ask(last)
        proxy.wait_for(1, key=f"data/{last}")
        second.ask(last)
        first.process.kill()  # and with it the container
        assert second.answer() == hashes([last])[0]
        proxy.release()
    with reader(package) as outside:
        assert outside.read_all(keys) == hashes(keys)
    assert len(proxy.operations(key=f"data/{keys[0]}")) == 1


# --- a process that ends, or stops, in the middle ----------------------------------------------------------------


@pytest.mark.s3
@pytest.mark.parametrize("key", ["small/7.bin", "unlisted.bin"])
@pytest.mark.parametrize("fate", ["killed", "stopped"])
def test_whoever_waits_for_a_process_that_goes_no_further_fetches_alone(
    package: str, proxy: Proxy, key: str, fate: str
) -> None:
    patience_s = PATIENCE_S if fate == "killed" else 0.5
    with reader(package) as first, reader(package, patience_s=patience_s) as second:
        proxy.fail(Stall(), operation="GetObject", key=f"data/{key}")
        first.ask(key)
        proxy.wait_for(1, key=f"data/{key}")
        second.ask(key)
        first.process.send_signal(signal.SIGKILL if fate == "killed" else signal.SIGSTOP)
        assert second.answer() == hashes([key])[0]
        proxy.release()
        assert len(proxy.operations(key=f"data/{key}")) == 2
        if fate == "stopped":
            first.process.send_signal(signal.SIGCONT)
            assert first.answer() == hashes([key])[0]
        wait_until_kept(key)
    with reader(package) as third:
        assert third.read_all([key]) == hashes([key])
    assert len(proxy.operations(key=f"data/{key}")) == 2


@pytest.mark.s3
def test_a_bucket_that_stalls_one_process_stalls_no_other_for_long(package: str, proxy: Proxy) -> None:
    key = "small/7.bin"
    with reader(package) as first, reader(package, patience_s=0.5) as second:
        proxy.fail(Stall(after=10), operation="GetObject", key=f"data/{key}")
        first.ask(key)
        proxy.wait_for(1, key=f"data/{key}")
        second.ask(key)
        assert second.answer() == hashes([key])[0]
        proxy.release()
        assert first.answer() == hashes([key])[0]


# --- kill -9 at random moments -----------------------------------------------------------------------------------

ZYGOTE = """
import hashlib, json, os, random, signal, sys, time
from fusepkg import Package

reference, keys = sys.argv[1], json.loads(sys.argv[2])


def read(seed):
    package = Package(reference)
    for key in random.Random(seed).sample(list(keys), len(keys)):
        if hashlib.sha256(package.get(key)).hexdigest() != keys[key]:
            return 3
    return 0


def child(seed):
    pid = os.fork()
    if not pid:
        try:
            code = read(seed)
        except BaseException:
            import traceback
            traceback.print_exc()
            code = 4
        finally:
            os._exit(code)
    return pid


for line in sys.stdin:
    seed, delay_s = json.loads(line)
    victim, *others = [child(f"{seed}/{number}") for number in range(3)]
    time.sleep(delay_s)
    os.kill(victim, signal.SIGKILL)
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in (victim, *others)]), flush=True)
"""


def test_readers_killed_at_random_moments_harm_nobody(fusepkg: Fusepkg, home: Path, tmp_path: Path) -> None:
    publish(fusepkg, tmp_path / "folder", "local/data:v1")
    blobs = home / "fusepkg-cache" / "blobs"
    keys = dict(zip(FILES, hashes(list(FILES)), strict=True))
    command = [sys.executable, "-c", ZYGOTE, "local/data:v1", json.dumps(keys)]
    chance = random.Random(os.environ.get("PYTEST_CURRENT_TEST"))
    killed = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as zygote:
        assert zygote.stdin is not None
        assert zygote.stdout is not None
        for seed in range(8):
            with Cache(blobs) as cache:
                cache.clear()
            print(json.dumps([seed, chance.random() * 0.5]), file=zygote.stdin, flush=True)
            fate, *codes = json.loads(zygote.stdout.readline())
            assert codes == [0, 0], f"round {seed}"
            assert fate in (0, -signal.SIGKILL)
            killed += fate != 0
            with Cache(blobs) as cache:
                assert cache.verify().ok
        zygote.stdin.close()
    assert killed > 0


# --- a lower cache that hangs ------------------------------------------------------------------------------------


@pytest.mark.fuse
async def test_a_lower_cache_whose_file_system_hangs(
    fusepkg: Fusepkg, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As NFS does when its server is gone: here a mount whose daemon is stopped."""
    if kernel.why_no_fuse() is not None:
        pytest.skip(f"the fuse engine cannot run: {kernel.why_no_fuse()}")
    monkeypatch.setattr(lower_cache, "TIMEOUT_S", 0.5)
    desk = Desk(tmp_path / "cache")
    entries = [desk.put(key, data) for key, data in FILES.items()]
    with Cache(tmp_path / "exported", small_limit_bytes=0) as exported:
        for entry in entries:
            exported.put(entry.digest, FILES[entry.logical_key])
    (tmp_path / "folder" / "v2").mkdir(parents=True)
    (tmp_path / "exported" / "v2" / "blobs").rename(tmp_path / "folder" / "v2" / "blobs")
    fusepkg("push", tmp_path / "folder", "local/exported:v1")
    with mounted("local/exported:v1", tmp_path / "lower", "fuse") as mount:
        async with desk.source(lambda: Cache(desk.directory, lower=mount.root)) as source:
            first, *others = entries
            assert await read_in_pages(source, first) == FILES[first.logical_key]
            assert desk.store.calls == []
            os.kill(mount.record.pid, signal.SIGSTOP)
            try:
                for entry in others[:5] + others[-1:]:
                    assert await read_in_pages(source, entry) == FILES[entry.logical_key]
                assert desk.fetched == 6
            finally:
                os.kill(mount.record.pid, signal.SIGCONT)
    assert len([record for record in caplog.records if "does not answer" in record.message]) == 1


# --- a cache that cannot be used ---------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a small disk")
async def test_a_disk_that_fills_while_reading_and_is_emptied_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m,mode=700", "tmpfs", disk], check=True)
    passed_s = 0.0
    monkeypatch.setattr(cache_tier.time, "monotonic", lambda: time.perf_counter() + passed_s)
    try:
        desk = Desk(disk / "cache")
        entries = [desk.put(key, data) for key, data in FILES.items()]
        entries += [desk.put(f"{number}", content(f"more{number}", 5 * MIB)) for number in range(12)]
        async with desk.source() as source:
            for entry in entries:
                assert await read_in_pages(source, entry) == desk.store.inner.get(entry.logical_key, length=entry.size)
            assert source.counters.failed_fetches == 0
            assert source.counters.cache_failures > 0
            assert source.cached_chunks(entries[0]) == (1, 1)
            assert source.cached_chunks(entries[-1])[0] == 0
            await trio.to_thread.run_sync(subprocess.run, ["sh", "-c", f"rm -r {disk}/cache/v2/blobs/*"])
            passed_s += cache_tier.RETRY_S
            for number in range(3):
                entry = desk.put(f"{number}", content(f"later{number}", 5 * MIB))
                assert await read_in_pages(source, entry) == desk.store.inner.get(entry.logical_key, length=entry.size)
                assert source.cached_chunks(entry) == (1, 1)
        assert len([record for record in caplog.records if "cannot be used" in record.message]) == 1
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.fuse
async def test_a_disk_that_fails_to_read_and_to_write(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    if kernel.why_no_fuse() is not None:
        pytest.skip(f"the fuse engine cannot run: {kernel.why_no_fuse()}")
    with fuse_disk.mounted(tmp_path) as disk:
        desk = Desk(disk.path / "cache")
        old = [desk.put_large(), desk.put("unlisted", LARGE + b"old")]
        new = [desk.put("small", LARGE[-9:]), desk.put("another", LARGE + b"new")]
        async with desk.source() as source:
            for entry in old:
                await read_in_pages(source, entry)
            assert source.cached_chunks(old[1]) == (3, 3)
            disk.fail("read", "write", "open", "fsync")
            before = desk.fetched
            for entry in old + new:
                assert await read_in_pages(source, entry) == desk.store.inner.get(entry.logical_key, length=entry.size)
            assert desk.fetched - before <= (3 + 1) + (1 + 1)
            assert source.counters.failed_fetches == 0
            disk.fail()
            for entry in old:
                assert await read_in_pages(source, entry) == desk.store.inner.get(entry.logical_key, length=entry.size)
        assert len([record for record in caplog.records if "cannot be" in record.message]) <= 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a read-only file system")
async def test_a_read_only_cache_is_used_once_it_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "cache"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=700", "tmpfs", directory], check=True)
    passed_s = 0.0
    monkeypatch.setattr(cache_tier.time, "monotonic", lambda: time.perf_counter() + passed_s)
    try:
        desk = Desk(directory)
        entries = [desk.put(key, data) for key, data in FILES.items()]
        old, *news = entries
        async with desk.source() as source:
            assert await read_in_pages(source, old) == FILES[old.logical_key]
        subprocess.run(["mount", "-o", "remount,ro", directory], check=True)
        async with desk.source() as source:
            for entry in (old, *news[-3:]):
                assert await read_in_pages(source, entry) == FILES[entry.logical_key]
                assert source.cached_chunks(entry)[0] == 0
            subprocess.run(["mount", "-o", "remount,rw", directory], check=True)
            passed_s += cache_tier.RETRY_S
            await read_in_pages(source, news[0])
            assert source.cached_chunks(news[0]) == source.cached_chunks(old) == (1, 1)
        assert len([record for record in caplog.records if "cannot be used" in record.message]) == 1
    finally:
        subprocess.run(["umount", directory], check=True)
