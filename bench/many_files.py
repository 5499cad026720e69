"""Memory of a mount that has read 100,000 files for the first time, with packs, through S3 without delay."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bench import machine, workload
from bench.failed import SubjectFailed
from bench.memory import Peak
from bench.readers import run_readers
from bench.remote import BUCKET, PACKED, PREFIX, SMALL, make_bucket, ours
from bench.rows import Run, in_order_of_round, usable
from bench.server import start_server, why_no_server
from bench.subjects import fusepkg

if TYPE_CHECKING:
    from contextlib import ExitStack

    from bench.rows import Measure
    from bench.subjects.subject import Subject
    from bench.workload import Tree

FILES, DIRECTORIES = 100_000, 500
READERS = 8


def many_files(run: Run, stack: ExitStack) -> Measure:
    """Read all files once, and look at the memory of all processes meanwhile."""
    if reason := why_no_server():
        raise SubjectFailed(reason)
    source = run.scratch / "many"
    tree = workload.write_tree(source / SMALL, directories=DIRECTORIES, files=run.scaled(FILES))
    server = start_server(run.scratch / "s3-many", stack, (0,))
    make_bucket(server, BUCKET)
    with run.place() as home:
        environ = fusepkg.environment(home, server.environment(0))
        fusepkg.run(environ, "push", "--packs", "--prefix", PREFIX, source, PACKED)
    what = f"{len(tree.paths):,} files of 10 KB"
    run.results.add_row("many.rate", f"first read, {READERS} readers, {what}", "files/s")
    run.results.add_row(
        "many.memory", f"memory of all processes, rss without file pages, peak of the first read of {what}", "MB"
    )
    run.results.add_row("many.after", "the same at the end", "MB")
    run.results.add_row("many.rss", "peak of the same with file pages", "MB")
    run.results.add_row("many.processes", "processes", "")

    def measure(number: int) -> None:
        for subject in in_order_of_round(usable(run, ours(server, 0)), number):
            with run.attempt(f"{subject.name}, many"):
                _measure(run, subject, tree, number)

    return measure


def _measure(run: Run, subject: Subject, tree: Tree, number: int) -> None:
    with run.place() as place, subject.open(place) as opened:
        run.forget_caches()
        load, peak = machine.load(), Peak(opened.processes)
        reading = partial(workload.read_files, opened.directory / SMALL, tree, READERS)
        timing = run_readers(reading(), peak.look)
        workload.expect(round(timing.work), len(tree.paths), "files")
        left = peak.look()
        found = {
            "rate": timing.rate, "memory": peak.seen["nofile"], "after": left["nofile"], "rss": peak.seen["rss"],
            "processes": len(opened.processes()),
        }  # fmt: skip
        for key, value in found.items():
            run.record_value(f"many.{key}", subject.name, number, value, load)
