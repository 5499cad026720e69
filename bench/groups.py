"""Groups of rows: each sets up what it needs once, then measures round by round."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import workload
from bench.against_quilt3 import opening, publishing
from bench.bucket import bucket_reads
from bench.cache_rows import blobs, opening_a_cache
from bench.creates import creating
from bench.dataloader import decoded, only_read
from bench.in_place import first_read
from bench.large_object import large_object
from bench.many_files import many_files
from bench.mount_times import mount_times
from bench.peers import peers
from bench.random_reads import random_reads
from bench.rows import (
    Run,
    in_order_of_round,
    large_file_sessions,
    run_session,
    small_file_sessions,
    usable,
)
from bench.sparse import sparse
from bench.subjects import fusepkg, rclone
from bench.subjects.local import local
from bench.tools import copying, names, programs

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack
    from pathlib import Path

    from bench.rows import Measure, Row

SMALL_FILES, DIRECTORIES = 20_000, 100
LARGE_BYTES = 256 * workload.MIB


def small_files(run: Run, _stack: ExitStack) -> Measure:
    """Many small files, on this machine's disk."""
    source = run.scratch / "small"
    tree = workload.write_tree(source, directories=DIRECTORIES, files=run.scaled(SMALL_FILES))
    return _on_local_disk(run, source, small_file_sessions(tree))


def large_file(run: Run, _stack: ExitStack) -> Measure:
    """One large file, on this machine's disk."""
    source = run.scratch / "large"
    tree = workload.write_large(source, max(run.scaled(LARGE_BYTES), workload.MIB))
    return _on_local_disk(run, source, large_file_sessions(tree))


GROUPS: dict[str, Callable[[Run, ExitStack], Measure]] = {
    "peers": peers,
    "stream": large_object,
    "sparse": sparse,
    "in-place": first_read,
    "programs": programs,
    "random4k": random_reads,
    "names": names,
    "many": many_files,
    "dataloader": decoded,
    "dataloader-bytes": only_read,
    "quilt3-open": opening,
    "quilt3-push": publishing,
    "copy": copying,
    "mount": mount_times,
    "small": small_files,
    "large": large_file,
    "s3": bucket_reads,
    "s3-create": creating,
    "cache": blobs,
    "cache-open": opening_a_cache,
}
"""By the names that ``--rows`` takes. In one run ``peers``, ``stream`` and ``sparse`` share a server, as do both
``dataloader``s."""


def _on_local_disk(run: Run, source: Path, sessions: list[list[Row]]) -> Measure:
    reference = f"local/{source.name}:bench"
    settings = {"FUSEPKG_DATA_DIR": str(run.scratch / "data")}
    with run.place() as home:
        fusepkg.run(fusepkg.environment(home, settings), "push", source, reference)
    subjects = usable(
        run,
        [
            local(source),
            *(fusepkg.fusepkg(engine, reference, settings) for engine in fusepkg.ENGINES),
            *(rclone.rclone(mode, str(source), {}) for mode in rclone.MODES),
        ],
    )

    def measure(number: int) -> None:
        for rows in sessions:
            for subject in in_order_of_round(subjects, number):
                run_session(run, subject, rows, number, source if subject.name in fusepkg.ENGINES else None)

    return measure
