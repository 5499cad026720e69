"""The first read of files of the registry `local`, which are read where they lie."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bench import machine, workload
from bench.beside_folder import beside_folder, in_sessions
from bench.rows import Row, Run

if TYPE_CHECKING:
    from contextlib import ExitStack

    from bench.rows import Measure

FILES, DIRECTORIES = 20_000, 100
READERS = 8


def first_read(run: Run, _stack: ExitStack) -> Measure:
    """Read small files for the first time, the folder's beside the mounts'."""
    source = run.scratch / "in-place"
    tree = workload.write_tree(source, directories=DIRECTORIES, files=run.scaled(FILES))
    reading = partial(workload.read_files, tree=tree, readers=READERS)
    title = f"first read of {len(tree.paths):,} files of 10 KB, {READERS} readers, caches dropped"
    row = Row(f"in-place.first.{READERS}", title, "files/s", reading, machine.ALL, once=True)
    return in_sessions(run, beside_folder(run, source), [row])
