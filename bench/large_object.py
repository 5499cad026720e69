"""One large object 20 ms away: from end to end, cold and from the cache, and random reads of it."""

from __future__ import annotations

import os
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from bench import machine, workload
from bench.bare import bare_gets
from bench.readers import run_readers
from bench.remote import BUCKET, CHUNK_BYTES, FAR_MS, LARGE, PREFIX, SEED, remote, subjects_at
from bench.rows import Row, Run, in_order_of_round, run_session
from bench.subjects import fusepkg
from bench.subjects.local import local

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from bench.remote import Remote
    from bench.rows import Measure
    from bench.subjects.subject import Subject
    from bench.workload import Loop, Tree

RANGES_IN_FLIGHT = 8
RANDOM_READS, RANDOM_BYTES = 64, 64 * 1024
"""So few that about half of the chunks of 1 GiB are touched by none: what is fetched beside those touched shows."""


def large_object(run: Run, _stack: ExitStack) -> Measure:
    """Read one large object in three ways."""
    there = remote(run)
    size = f"{there.large.file_bytes // workload.MIB:,} MiB"
    loops = partial(_reading, tree=there.large)
    title = f"{size}, from end to end, cold, {FAR_MS} ms away"
    first = Row(f"stream.first.{FAR_MS}", title, "MB/s", loops, machine.ALL, once=True)
    again = Row("stream.dropped", f"{size} again from the cache, page cache dropped", "MB/s", loops, machine.PAGES)
    offsets = _offsets(there.large.file_bytes)

    def measure(number: int) -> None:
        subjects = in_order_of_round(subjects_at(run, there, FAR_MS), number)
        for subject in subjects:
            run_session(run, subject, [first, again], number)
        _bare_ranges(run, there, number)
        run_session(run, local(there.source), [again], number)
        for subject in subjects:
            with run.attempt(f"{subject.name}, random"):
                _random(run, there, subject, offsets, number)

    return measure


def _reading(directory: Path, tree: Tree) -> list[Loop]:
    return workload.read_large(directory / LARGE, tree)


def _offsets(size: int) -> list[int]:
    """Return where the random reads begin: each within one chunk of fusepkg's."""
    chance = Random(SEED)
    return [chance.randrange(max(1, size // RANDOM_BYTES)) * RANDOM_BYTES for _ in range(RANDOM_READS)]


def _random(run: Run, there: Remote, subject: Subject, offsets: Sequence[int], number: int) -> None:
    """Read at random places on a new mount. For ours: how many chunks the server sent for each that was touched."""
    touched = len({offset // CHUNK_BYTES for offset in offsets})
    chunks = -(-there.large.file_bytes // CHUNK_BYTES)
    what = f"{len(offsets)} random reads of 64 KiB, cold, {FAR_MS} ms away"
    run.results.add_row("random.rate", what, "reads/s")
    run.results.add_row("random.gets", "GETs a read", "GETs")
    words = f"chunks of 8 MiB sent for each of {touched} touched, of {chunks}; {what}"
    run.results.add_row("random.chunks", words, "chunks")
    with run.place() as place, subject.open(place) as opened:
        run.forget_caches()
        load, before, sent = machine.load(), there.server.gets(FAR_MS), there.server.sent_bytes(FAR_MS)
        timing = run_readers([_random_reads(opened.directory / LARGE / "large", offsets)])
        gets, sent = there.server.gets(FAR_MS) - before, there.server.sent_bytes(FAR_MS) - sent
    run.record_value("random.rate", subject.name, number, timing.rate, load)
    run.record_value("random.gets", subject.name, number, gets / timing.work, load)
    if subject.name in fusepkg.ENGINES:
        run.record_value("random.chunks", subject.name, number, sent / CHUNK_BYTES / touched, load)


def _random_reads(path: Path, offsets: Sequence[int]) -> Loop:
    def prepare() -> Callable[[], float]:
        def work() -> float:
            file = os.open(path, os.O_RDONLY)
            found = sum(len(os.pread(file, RANDOM_BYTES, offset)) for offset in offsets)
            os.close(file)
            workload.expect(found, RANDOM_BYTES * len(offsets), "bytes")
            return len(offsets)

        return work

    return prepare


def _bare_ranges(run: Run, there: Remote, number: int) -> None:
    """The large object in ranges of a chunk, 8 requests in flight."""
    size, key = there.large.file_bytes, f"{PREFIX}/{LARGE}/large"
    ranges = [(key, (at, min(at + CHUNK_BYTES, size))) for at in range(0, size, CHUNK_BYTES)]
    with run.attempt("obstore, stream"), run.place() as place:
        run.forget_caches()
        load, settings = machine.load(), there.server.environment(FAR_MS)
        loop = bare_gets(settings, BUCKET, ranges, RANGES_IN_FLIGHT, place / "cpu", size / 1e6)
        run.record_value(f"stream.first.{FAR_MS}", "obstore", number, run_readers([loop]).rate, load)
