"""Random reads of 4 KiB of a large file that is in the cache."""

from __future__ import annotations

import os
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from bench import machine, workload
from bench.beside_folder import in_sessions, subjects_of
from bench.manifests import TAG
from bench.rows import Row, Run
from bench.subjects import fusepkg

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack
    from pathlib import Path

    from bench.rows import Measure
    from bench.workload import Loop

FILE_BYTES = 434 * workload.MIB
READ_BYTES = 4096
JOBS, READS = 4, 5_000
"""So few reads that most find a page which no read before them brought."""


def random_reads(run: Run, _stack: ExitStack) -> Measure:
    """Read at random from a file that was fetched whole, with the page cache dropped before, and page-cached."""
    source = run.scratch / "random"
    tree = workload.write_large(source, max(run.scaled(FILE_BYTES), workload.MIB))
    settings = {"FUSEPKG_DATA_DIR": str(run.scratch / "data"), "FUSEPKG_COPY_LOCAL": "1"}
    with run.place() as home:
        fusepkg.run(fusepkg.environment(home, settings), "push", source, f"local/{source.name}:{TAG}")
    size = f"{tree.file_bytes // workload.MIB:,} MiB"
    reading = partial(_reading, size=tree.file_bytes)
    rows = [
        Row("random4k.whole", f"{size} read once", "MB/s", partial(workload.read_large, tree=tree), once=True),
        Row("random4k.cached", f"{JOBS} jobs, {size}, page-cached", "reads/s", reading),
        Row("random4k.dropped", f"{JOBS} jobs, {size}, page cache dropped", "reads/s", reading, machine.PAGES),
    ]
    return in_sessions(run, subjects_of(run, source, settings), rows)


def _reading(directory: Path, size: int) -> list[Loop]:
    def job(number: int) -> Loop:
        def prepare() -> Callable[[], float]:
            chance = Random(number)
            offsets = [chance.randrange(max(1, size // READ_BYTES)) * READ_BYTES for _ in range(READS)]

            def work() -> float:
                file = os.open(directory / "large", os.O_RDONLY)
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
                found = sum(len(os.pread(file, READ_BYTES, offset)) for offset in offsets)
                os.close(file)
                workload.expect(found, READ_BYTES * READS, "bytes")
                return READS

            return work

        return prepare

    return [job(number) for number in range(JOBS)]
