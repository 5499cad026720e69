"""The cache as a library, beside plain files on the same disk; and how long a large one takes to open.

Plain files are what a program would write without a cache: no hash, no check, no sync. What ``put`` promises besides
(another process sees it, kill -9 does not lose it, its bytes were hashed) has its price in these rows.
"""

from __future__ import annotations

import hashlib
import os
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from fusepkg_cache import Algorithm, Cache, Digest, verified

from bench import machine, workload
from bench.failed import SubjectFailed
from bench.processes import run_statement
from bench.readers import run_readers
from bench.subjects import fusepkg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from bench.rows import Measure, Run
    from bench.workload import Loop

SMALL, LARGE = 10 * 1024, 8 * workload.MIB
"""Sizes of the blobs: an image of a training set, and a chunk of a large file."""

SMALL_BLOBS, LARGE_BLOBS = 10_000, 32
PART = workload.MIB
"""What is read of a large blob at a time."""

MANY = 1_000_000
MANY_BYTES = 64
"""Blobs of the cache that is only opened: how many there are is the question, not how large they are."""

STAGED = 20_000
"""Blobs of the large cache made visible at a time."""


def blobs(run: Run, _stack: ExitStack) -> Measure:
    """Put and get blobs of 10 KB; put chunks of 8 MiB and get 1 MiB out of each."""
    rows = {
        "cache.put.small": ("put 10 KB", "blobs/s"),
        "cache.get.small": ("get 10 KB, cached", "blobs/s"),
        "cache.put.large": ("put 8 MiB", "blobs/s"),
        "cache.get.part": ("get 1 MiB in 8 MiB, cached", "parts/s"),
    }
    for key, (title, unit) in rows.items():
        run.results.add_row(key, title, unit)
    sets = {"small": _blobs(run.scaled(SMALL_BLOBS), SMALL), "large": _blobs(run.scaled(LARGE_BLOBS), LARGE)}

    def measure(number: int) -> None:
        subjects = [("cache", _cache_loops), ("files", _file_loops)]
        for subject, loops in subjects if number % 2 == 0 else subjects[::-1]:
            with run.attempt(f"{subject}, blobs"), run.place() as place:
                for key, loop in loops(place / "held", sets).items():
                    load = machine.load()
                    timing = run_readers([loop])
                    run.record_value(key, subject, number, timing.rate, load)

    return measure


def opening_a_cache(run: Run, _stack: ExitStack) -> Measure:
    """Open an empty cache, and one of a million blobs, in a new process each, and look for one blob."""
    count = run.scaled(MANY)
    empty, full = run.scratch / "empty-cache", run.scratch / "full-cache"
    Cache(empty).close()
    wanted = _fill(full, count)
    for key, title in (("empty", "an empty cache"), ("full", f"a cache of {count:,} blobs")):
        run.results.add_row(f"cache-open.{key}", f"open {title}, first look included", "s")
    run.results.add_row("cache-open.memory", f"memory it takes more, with {count:,} blobs", "MB")

    def measure(number: int) -> None:
        with run.attempt("cache, opening"), run.place() as home:
            grown = {}
            for key, directory, found in (("empty", empty, 0), ("full", full, MANY_BYTES)):
                load = machine.load()
                facts = run_statement(fusepkg.environment(home, {}), "open-cache", str(directory), wanted.hex)
                if facts["found"] != found:
                    raise SubjectFailed(f"the {key} cache gave {facts['found']} bytes")
                grown[key] = facts["grown_mb"]["rss"]
                run.record_value(f"cache-open.{key}", "cache", number, facts["seconds"], load)
            run.record_value("cache-open.memory", "cache", number, grown["full"] - grown["empty"])

    return measure


def _fill(directory: Path, count: int) -> Digest:
    """Fill a cache with small blobs; gives the digest of one of them."""
    blobs = ((number, number.to_bytes(MANY_BYTES, "big")) for number in range(count))
    digest = None
    with Cache(directory) as cache:
        while some := list(islice(blobs, STAGED)):
            named = [(Digest(Algorithm.SHA2_256, hashlib.sha256(data).digest()), data) for _, data in some]
            cache.put_many([verified(*each) for each in named])
            digest = named[-1][0]
    assert digest is not None
    return digest


def _blobs(count: int, size: int) -> list[tuple[Digest, bytes]]:
    made = (os.urandom(size) for _ in range(count))
    return [(Digest(Algorithm.SHA2_256, hashlib.sha256(data).digest()), data) for data in made]


def _cache_loops(directory: Path, sets: dict[str, list[tuple[Digest, bytes]]]) -> dict[str, Loop]:
    def opened(work: Callable[[Cache, Sequence[tuple[Digest, bytes]]], int], which: str) -> Loop:
        def prepare() -> Callable[[], float]:
            cache = Cache(directory)
            return partial(work, cache, sets[which])

        return prepare

    def put(cache: Cache, some: Sequence[tuple[Digest, bytes]]) -> int:
        for digest, data in some:
            cache.put(digest, data)
        return len(some)

    def get(cache: Cache, some: Sequence[tuple[Digest, bytes]]) -> int:
        found = sum(len(cache.get(digest) or b"") for digest, _ in some)
        workload.expect(found, len(some) * SMALL, "bytes")
        return len(some)

    def get_parts(cache: Cache, some: Sequence[tuple[Digest, bytes]]) -> int:
        parts = list(_parts(len(some)))
        found = sum(len(cache.read(some[number][0], offset, PART) or b"") for number, offset in parts)
        workload.expect(found, len(parts) * PART, "bytes")
        return len(parts)

    return _rows(opened(put, "small"), opened(get, "small"), opened(put, "large"), opened(get_parts, "large"))


def _file_loops(directory: Path, sets: dict[str, list[tuple[Digest, bytes]]]) -> dict[str, Loop]:
    def opened(work: Callable[[Sequence[tuple[Digest, bytes]]], int], which: str) -> Loop:
        def prepare() -> Callable[[], float]:
            directory.mkdir(exist_ok=True)
            return partial(work, sets[which])

        return prepare

    def put(some: Sequence[tuple[Digest, bytes]]) -> int:
        for digest, data in some:
            (directory / digest.hex).write_bytes(data)
        return len(some)

    def get(some: Sequence[tuple[Digest, bytes]]) -> int:
        found = sum(len((directory / digest.hex).read_bytes()) for digest, _ in some)
        workload.expect(found, len(some) * SMALL, "bytes")
        return len(some)

    def get_parts(some: Sequence[tuple[Digest, bytes]]) -> int:
        found = parts = 0
        for number, offset in _parts(len(some)):
            file = os.open(directory / some[number][0].hex, os.O_RDONLY)
            found += len(os.pread(file, PART, offset))
            os.close(file)
            parts += 1
        workload.expect(found, parts * PART, "bytes")
        return parts

    return _rows(opened(put, "small"), opened(get, "small"), opened(put, "large"), opened(get_parts, "large"))


def _rows(put_small: Loop, get_small: Loop, put_large: Loop, get_part: Loop) -> dict[str, Loop]:
    """In the order in which they are measured: what is got was put before."""
    return {
        "cache.put.small": put_small,
        "cache.get.small": get_small,
        "cache.put.large": put_large,
        "cache.get.part": get_part,
    }


def _parts(blobs: int) -> Iterator[tuple[int, int]]:
    """Number of a large blob and offset in it, for every part of each."""
    return ((number, offset) for number in range(blobs) for offset in range(0, LARGE, PART))
