"""fusepkg beside its peers, over one S3 server 0, 5 and 20 ms away: cold and warm epochs, and one large object.

Every subject reads the same files, put there in its own way: fusepkg, rclone and s3fs as one object a file, JuiceFS in
its blocks. A bare loop over obstore, without a mount, check or cache, shows what the way to the server gives.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from bench import machine, workload
from bench.memory import cpu_seconds
from bench.readers import run_readers
from bench.results import Sample
from bench.rows import Row, Run, in_order_of_round, measure_rows, run_session, usable
from bench.server import DELAYS_MS, start_server, why_no_server
from bench.subjects import fusepkg, juicefs, rclone
from bench.subjects.local import local
from bench.subjects.s3fs import s3fs
from bench.workload import MIB, Tree

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from bench.rows import Measure
    from bench.server import Server
    from bench.subjects.subject import Subject
    from bench.workload import Loop

FILES, DIRECTORIES = 20_000, 100
LARGE_BYTES = 1024 * MIB
READERS = 8
IN_FLIGHT, RANGES_IN_FLIGHT = 64, 8
RANGE_BYTES = 8 * MIB
RANDOM_READS, RANDOM_BYTES = 200, 64 * 1024
FAR_MS = 20
"""The distance of all rows that are measured at one only."""

BUCKET, JUICEFS_BUCKET, PREFIX = "bench-data", "bench-juicefs", "objects"
SEED = 20
SMALL, LARGE = "small", "big"


@dataclass(frozen=True, slots=True)
class Setting:
    """The server and what lies on it."""

    run: Run
    server: Server
    source: Path
    small: Tree
    large: Tree
    meta: Path


def peers(run: Run, stack: ExitStack) -> Measure:
    """Cold epochs at each distance, warm epochs, and a large object."""
    if reason := why_no_server():
        run.results.skipped["peers"] = reason
        return lambda _: None
    setting = _set_up(run, stack)
    shuffled = Tree(tuple(Random(SEED).sample(setting.small.paths, len(setting.small.paths))), setting.small.file_bytes)

    def measure(number: int) -> None:
        for delay in DELAYS_MS:
            for subject in in_order_of_round(_subjects(setting, delay), number):
                warm = _warm_rows(setting.small, shuffled) if delay == FAR_MS else []
                cold = Cold(f"list.{delay}", f"in listing order, {delay} ms", setting.small, delay)
                measure_epochs(run, setting.server, subject, cold, number, warm)
            _bare_objects(setting, delay, number)
        for subject in in_order_of_round(_subjects(setting, FAR_MS), number):
            cold = Cold(f"shuffled.{FAR_MS}", f"shuffled, {FAR_MS} ms", shuffled, FAR_MS)
            measure_epochs(run, setting.server, subject, cold, number)
            _large(setting, subject, number)
        _bare_ranges(setting, number)
        run_session(run, local(setting.source), _warm_rows(setting.small, shuffled), number)
        run_session(run, local(setting.source), [_large_dropped(setting.large)], number)

    return measure


def _set_up(run: Run, stack: ExitStack) -> Setting:
    source = run.scratch / "peers"
    small = workload.write_tree(source / SMALL, directories=DIRECTORIES, files=run.scaled(FILES))
    large = workload.write_large(source / LARGE, max(run.scaled(LARGE_BYTES), 2 * RANGE_BYTES))
    server = start_server(run.scratch / "s3", stack)
    settings = server.environment(0)
    make_bucket(server, BUCKET)
    make_bucket(server, JUICEFS_BUCKET)
    with run.place() as home:
        fusepkg.run(
            fusepkg.environment(home, settings),
            "push",
            "--no-packs",
            "--prefix",
            PREFIX,
            source,
            f"{BUCKET}/peers:bench",
        )
    meta = run.scratch / "juicefs" / "meta.db"
    meta.parent.mkdir()
    if not juicefs.why_not():
        with run.attempt("juicefs"):
            juicefs.write_file_system(meta, source, f"{server.endpoints[0]}/{JUICEFS_BUCKET}", settings)
    run.results.versions.update({"juicefs": juicefs.version(), "rclone": rclone.version()})
    return Setting(run, server, source, small, large, meta)


def make_bucket(server: Server, bucket: str) -> None:
    """Make an empty bucket."""
    import boto3

    client = boto3.client(
        "s3", endpoint_url=server.endpoints[0], region_name=server.environment(0)["AWS_REGION"],
        aws_access_key_id=server.access_key, aws_secret_access_key=server.secret_key,
    )  # fmt: skip
    client.create_bucket(Bucket=bucket)


def _subjects(setting: Setting, delay: int) -> list[Subject]:
    settings = setting.server.environment(delay)
    endpoint = setting.server.endpoints[delay]
    options = ("--s3-provider=SeaweedFS", f"--s3-endpoint={endpoint}", "--s3-env-auth", "--s3-force-path-style")
    return usable(
        setting.run,
        [
            *(fusepkg.fusepkg(engine, f"{BUCKET}/peers:bench", settings) for engine in fusepkg.ENGINES),
            rclone.rclone("full", f":s3:{BUCKET}/{PREFIX}", settings, *options),
            juicefs.juicefs(setting.meta, f"{endpoint}/{JUICEFS_BUCKET}", settings),
            s3fs(BUCKET, PREFIX, settings),
        ],
    )


@dataclass(frozen=True, slots=True)
class Cold:
    """A first epoch over a tree, at a distance; ``key`` and ``title`` name its rows."""

    key: str
    title: str
    tree: Tree
    delay_ms: int


def measure_epochs(
    run: Run, server: Server, subject: Subject, cold: Cold, number: int, warm: Sequence[Row] = ()
) -> None:
    """The first epoch over small files, its CPU and its GETs; then the rows of later ones on the same mount."""
    _add_cold_rows(run, cold.key, cold.title)
    with run.attempt(f"{subject.name}, cold.{cold.key}"), run.place() as place, subject.open(place) as opened:
        if not (run.dry or machine.why_no_drop()):
            machine.drop_caches(machine.ALL)
        cpu, gets = cpu_seconds(opened.processes()), server.gets(cold.delay_ms)
        timing = run_readers(_reading(opened.directory, cold.tree, READERS))
        cpu_s = (cpu_seconds(opened.processes()) - cpu) / timing.work
        gets_a_file = (server.gets(cold.delay_ms) - gets) / timing.work
        _record_cold(run, cold.key, subject.name, number, timing.rate, cpu_s, gets_a_file)
        if warm:
            measure_rows(run, subject.name, opened, warm, number)


def _add_cold_rows(run: Run, key: str, title: str) -> None:
    run.results.add_row(f"cold.{key}", f"first epoch, {READERS} readers, {title}", "files/s")
    run.results.add_row(f"cold-cpu.{key}", f"CPU a file, {title}", "us")
    run.results.add_row(f"cold-gets.{key}", f"GETs a file, {title}", "GETs")


def _record_cold(run: Run, key: str, subject: str, number: int, rate: float, cpu_s: float, gets: float) -> None:
    for table, value in (("cold", rate), ("cold-cpu", cpu_s * 1e6), ("cold-gets", gets)):
        run.record(
            Sample(row=f"{table}.{key}", subject=subject, round=number, value=value, passes=[], load=machine.load())
        )


def _reading(directory: Path, tree: Tree, readers: int, budget_s: float = float("inf")) -> list[Loop]:
    return workload.read_files(directory / SMALL, tree, readers, budget_s)


def _warm_rows(tree: Tree, shuffled: Tree) -> list[Row]:
    def row(key: str, title: str, tree: Tree, readers: int, drops: int) -> Row:
        loops = partial(_reading, tree=tree, readers=readers, budget_s=workload.BUDGET_S)
        return Row(f"warm.{key}", title, "files/s", loops, drops)

    return [
        row("dropped", f"second epoch, shuffled, pages dropped, {READERS} readers", shuffled, READERS, machine.PAGES),
        row("cached.1", "third epoch, page-cached, 1 reader", tree, 1, 0),
        row("cached.8", f"third epoch, page-cached, {READERS} readers", tree, READERS, 0),
    ]


def _large_dropped(tree: Tree) -> Row:
    loops = partial(_reading_large, tree=tree)
    return Row("stream.dropped", "cached, pages dropped", "MB/s", loops, machine.PAGES)


def _reading_large(directory: Path, tree: Tree) -> list[Loop]:
    return workload.read_large(directory / LARGE, tree)


def _large(setting: Setting, subject: Subject, number: int) -> None:
    """One large object: from end to end with cold caches, again from the cache; and on a new mount at random places."""
    loops = partial(_reading_large, tree=setting.large)
    first = Row(f"stream.first.{FAR_MS}", f"first read, {FAR_MS} ms", "MB/s", loops, machine.ALL, once=True)
    run_session(setting.run, subject, [first, _large_dropped(setting.large)], number)
    run = setting.run
    run.results.add_row("random.rate", f"random reads of 64 KiB, cold, {FAR_MS} ms", "reads/s")
    run.results.add_row("random.gets", "GETs a read", "GETs")
    with run.attempt(f"{subject.name}, random"), run.place() as place, subject.open(place) as opened:
        gets = setting.server.gets(FAR_MS)
        timing = run_readers([_random_reads(opened.directory / LARGE / "large", setting.large.file_bytes)])
        found = {"random.rate": timing.rate, "random.gets": (setting.server.gets(FAR_MS) - gets) / timing.work}
        for row, value in found.items():
            run.record(Sample(row=row, subject=subject.name, round=number, value=value, passes=[], load=machine.load()))


def _random_reads(path: Path, size: int) -> Loop:
    def prepare() -> Callable[[], float]:
        offsets = [Random(SEED).randrange(max(1, size - RANDOM_BYTES)) for _ in range(RANDOM_READS)]

        def work() -> float:
            file = os.open(path, os.O_RDONLY)
            found = sum(len(os.pread(file, RANDOM_BYTES, offset)) for offset in offsets)
            os.close(file)
            workload.expect(found, RANDOM_BYTES * len(offsets), "bytes")
            return len(offsets)

        return work

    return prepare


def _bare_objects(setting: Setting, delay: int, number: int) -> None:
    """What a loop over all objects gets, 64 requests in flight, in listing order."""
    key = f"list.{delay}"
    requests = [(f"{PREFIX}/{SMALL}/{path}", None) for path in setting.small.paths]
    with setting.run.attempt(f"obstore, cold.{key}"), setting.run.place() as place:
        gets = setting.server.gets(delay)
        loop = _bare(setting.server.environment(delay), requests, IN_FLIGHT, place / "cpu", len(requests))
        timing = run_readers([loop])
        count = (setting.server.gets(delay) - gets) / timing.work
        cpu_s = float((place / "cpu").read_text()) / timing.work
        _record_cold(setting.run, key, "obstore", number, timing.rate, cpu_s, count)


def _bare_ranges(setting: Setting, number: int) -> None:
    """The large object in ranges, 8 requests in flight."""
    size = setting.large.file_bytes
    ranges = [(f"{PREFIX}/{LARGE}/large", (at, min(at + RANGE_BYTES, size))) for at in range(0, size, RANGE_BYTES)]
    with setting.run.attempt("obstore, stream"), setting.run.place() as place:
        loop = _bare(setting.server.environment(FAR_MS), ranges, RANGES_IN_FLIGHT, place / "cpu", size / 1e6)
        timing = run_readers([loop])
        row = f"stream.first.{FAR_MS}"
        setting.run.record(
            Sample(row=row, subject="obstore", round=number, value=timing.rate, passes=[], load=machine.load())
        )


def _bare(
    settings: dict[str, str],
    requests: Iterable[tuple[str, tuple[int, int] | None]],
    in_flight: int,
    cpu_file: Path,
    work_done: float,
) -> Loop:
    """GETs without a mount; the CPU seconds of the process go into ``cpu_file``."""

    def prepare() -> Callable[[], float]:
        import obstore
        from obstore.store import S3Store

        store = S3Store(
            BUCKET, endpoint=settings["AWS_ENDPOINT_URL_S3"], region=settings["AWS_REGION"],
            access_key_id=settings["AWS_ACCESS_KEY_ID"], secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
            client_options={"allow_http": True},
        )  # fmt: skip

        async def get(key: str, part: tuple[int, int] | None) -> int:
            if part is None:
                return len(await (await obstore.get_async(store, key)).bytes_async())
            return len(await obstore.get_range_async(store, key, start=part[0], end=part[1]))

        def work() -> float:
            started_s = time.process_time()
            asyncio.run(_all_of((partial(get, *request) for request in requests), in_flight))
            cpu_file.write_text(str(time.process_time() - started_s))
            return work_done

        return work

    return prepare


async def _all_of(calls: Iterable[Callable[[], Awaitable[int]]], in_flight: int) -> int:
    """Await all calls, so many at once; the sum of what they give."""
    waiting = iter(calls)

    async def some() -> int:
        return sum([await call() for call in waiting])

    return sum(await asyncio.gather(*(some() for _ in range(in_flight))))
