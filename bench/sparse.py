"""Sparse reads of a package with packs: one file in a hundred, at random, and what the server sent for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import machine, workload
from bench.readers import run_readers
from bench.remote import FAR_MS, PACKED, SMALL, remote
from bench.subjects import fusepkg
from bench.workload import Tree

if TYPE_CHECKING:
    from contextlib import ExitStack

    from bench.remote import Remote
    from bench.rows import Measure, Run

SPARSE = 100
"""A sparse reader reads one in so many files."""


def sparse(run: Run, _stack: ExitStack) -> Measure:
    """Read one file in a hundred on a new mount of each engine."""
    there = remote(run)
    tree = Tree(there.shuffled.paths[: max(1, len(there.shuffled.paths) // SPARSE)], there.shuffled.file_bytes)
    what = f"{len(tree.paths)} of {len(there.small.paths):,} files at random"
    run.results.add_row("sparse.bytes", f"bytes fetched for each byte read, {what}", "bytes")
    run.results.add_row("sparse.gets", f"GETs a file, {what}", "GETs")

    def measure(number: int) -> None:
        for engine in fusepkg.ENGINES:
            if reason := fusepkg.why_not(engine):
                run.results.skipped[engine] = reason
                continue
            with run.attempt(f"{engine}, sparse"):
                _measure(run, there, engine, tree, number)

    return measure


def _measure(run: Run, there: Remote, engine: str, tree: Tree, number: int) -> None:
    with run.place() as place:
        environ = fusepkg.environment(place, there.server.environment(FAR_MS))
        with fusepkg.mounted(engine, PACKED, place / "mount", environ) as opened:
            run.forget_caches()
            load, gets, sent = machine.load(), there.server.gets(FAR_MS), there.server.sent_bytes(FAR_MS)
            timing = run_readers(workload.read_files(opened.directory / SMALL, tree, 1))
            gets, sent = there.server.gets(FAR_MS) - gets, there.server.sent_bytes(FAR_MS) - sent
    run.record_value("sparse.bytes", engine, number, sent / (timing.work * tree.file_bytes), load)
    run.record_value("sparse.gets", engine, number, gets / timing.work, load)
