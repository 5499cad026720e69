"""Everyday programs on a source tree, and random reads of a cached file: the mounts beside the folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import time
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from bench import workload
from bench.rows import Row, Run, in_order_of_round, run_session, usable
from bench.subjects import fusepkg
from bench.subjects.local import local

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from bench.rows import Measure
    from bench.workload import Loop

FILE_BYTES = 434 * workload.MIB
READ_BYTES = 4096
JOBS = 4
READ_S = 2.0
"""Each job reads for so long."""

COMMANDS = {
    "ls": ("ls -lR", ["ls", "-lR"]),
    "find": ("find", ["find", ".", "-type", "f"]),
    "grep": ("grep -r", ["grep", "-r", "no such words here", "."]),
}


def programs(run: Run, _stack: ExitStack) -> Measure:
    """``ls -lR``, ``find`` and ``grep -r``, warm, on the sources of Python's standard library."""
    source = run.scratch / "source"
    limit = run.scaled(20_000)
    count = _copy_sources(Path(sysconfig.get_path("stdlib")), source, limit)
    rows = [
        Row(
            f"programs.{key}",
            f"{title}, warm, {count:,} files",
            "files/s",
            partial(_running, command=command, count=count),
        )
        for key, (title, command) in COMMANDS.items()
    ]
    reading = partial(_running, command=["grep", "-rc", "x", "."], count=count)
    warm = Row("programs.read", "grep -r, the first time", "files/s", reading, once=True)
    return _beside_the_folder(run, source, [warm, *rows])


def random_reads(run: Run, _stack: ExitStack) -> Measure:
    """Random reads of 4 KiB from a file that is in the cache and in memory."""
    source = run.scratch / "random"
    tree = workload.write_large(source, max(run.scaled(FILE_BYTES), workload.MIB))
    whole = Row("random4k.whole", "the file read once", "MB/s", partial(workload.read_large, tree=tree), once=True)
    row = Row(
        "random4k.read", f"random reads of 4 KiB, {JOBS} jobs", "reads/s", partial(_reading, size=tree.file_bytes)
    )
    return _beside_the_folder(run, source, [whole, row])


def _beside_the_folder(run: Run, source: Path, rows: list[Row]) -> Measure:
    reference = f"local/{source.name}:bench"
    settings = {"FUSEPKG_DATA_DIR": str(run.scratch / "data")}
    with run.place() as home:
        fusepkg.run(fusepkg.environment(home, settings), "push", source, reference)
    mounts = [fusepkg.fusepkg(engine, reference, settings) for engine in fusepkg.ENGINES]
    subjects = usable(run, [local(source), *mounts])

    def measure(number: int) -> None:
        for subject in in_order_of_round(subjects, number):
            run_session(run, subject, rows, number)

    return measure


def _copy_sources(library: Path, target: Path, limit: int) -> int:
    """Copy Python files, at most ``limit``; how many."""
    count = 0
    for path in sorted(library.rglob("*.py")):
        if "site-packages" in path.parts:
            continue
        place = target / path.relative_to(library)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        count += 1
        if count == limit:
            break
    return count


def _running(directory: Path, command: list[str], count: int) -> list[Loop]:
    def prepare() -> Callable[[], float]:
        def work() -> float:
            done = subprocess.run(command, cwd=directory, stdout=subprocess.DEVNULL, check=False)
            workload.expect(int(done.returncode > 1), 0, "failures")
            return count

        return work

    return [prepare]


def _reading(directory: Path, size: int) -> list[Loop]:
    def job(number: int) -> Loop:
        def prepare() -> Callable[[], float]:
            chance = Random(number)
            offsets = [chance.randrange(max(1, size // READ_BYTES)) * READ_BYTES for _ in range(100_000)]

            def work() -> float:
                file = os.open(directory / "large", os.O_RDONLY)
                end = time.monotonic() + READ_S
                reads = 0
                while time.monotonic() < end:
                    found = len(os.pread(file, READ_BYTES, offsets[reads % len(offsets)]))
                    workload.expect(found, READ_BYTES, "bytes")
                    reads += 1
                os.close(file)
                return reads

            return work

        return prepare

    return [job(number) for number in range(JOBS)]
