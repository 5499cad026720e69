"""fusepkg beside its peers, over one S3 server 0, 5 and 20 ms away: cold and warm epochs over small files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bench import machine, workload
from bench.bare import bare_gets
from bench.memory import CpuMeter
from bench.readers import run_readers
from bench.remote import BUCKET, FAR_MS, PREFIX, SMALL, remote, subjects_at
from bench.rows import Row, Run, in_order_of_round, measure_rows, run_session
from bench.server import DELAYS_MS
from bench.subjects.local import local
from bench.workload import Tree

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from bench.remote import Remote
    from bench.rows import Measure
    from bench.subjects.subject import Subject
    from bench.workload import Loop

READERS = 8
IN_FLIGHT = 64
COLD_BUDGET_S = 15.0
"""A reader of a first epoch from afar stops after this, and its rate counts as it is: peers would take minutes."""

NEAR_BUDGET_S = 60.0
"""The same without delay, where later epochs follow, for which all must have been read."""

WARM_BUDGET_S = 5.0

PAGE_CACHED = 5
"""Page-cached rows read one in so many files: so few that each subject has them all in the page cache before."""


@dataclass(frozen=True, slots=True)
class Cold:
    """A first epoch over a tree, at a distance; ``key`` and ``title`` name its rows."""

    key: str
    title: str
    tree: Tree
    delay_ms: int


def peers(run: Run, _stack: ExitStack) -> Measure:
    """Cold epochs at each distance, the farthest first, and warm epochs."""
    there = remote(run)

    def measure(number: int) -> None:
        _epochs(run, there, _listed(there, FAR_MS), number, plain=True)
        _bare_objects(run, there, FAR_MS, number)
        shuffled = Cold(f"shuffled.{FAR_MS}", _title(there.shuffled, "shuffled", FAR_MS), there.shuffled, FAR_MS)
        _epochs(run, there, shuffled, number, plain=True)
        for delay in (one for one in DELAYS_MS if one != FAR_MS):
            warm = [] if delay else _warm_rows(there.small, there.shuffled)
            _epochs(run, there, _listed(there, delay), number, warm=warm)
            if not delay:
                run_session(run, local(there.source), warm, number)
            _bare_objects(run, there, delay, number)

    return measure


def _listed(there: Remote, delay: int) -> Cold:
    return Cold(f"list.{delay}", _title(there.small, "in listing order", delay), there.small, delay)


def _title(tree: Tree, order: str, delay: int) -> str:
    return f"{len(tree.paths):,} files of 10 KB {order}, {delay} ms away"


def _epochs(run: Run, there: Remote, cold: Cold, number: int, *, plain: bool = False, warm: Sequence[Row] = ()) -> None:
    for subject in in_order_of_round(subjects_at(run, there, cold.delay_ms, plain=plain), number):
        with run.attempt(f"{subject.name}, cold.{cold.key}"):
            _measure_epochs(run, there, subject, cold, number, warm)


def _measure_epochs(run: Run, there: Remote, subject: Subject, cold: Cold, number: int, warm: Sequence[Row]) -> None:
    """The first epoch over small files, its CPU and its GETs; then the rows of later ones on the same mount."""
    _add_cold_rows(run, cold)
    budget_s = COLD_BUDGET_S if cold.delay_ms else NEAR_BUDGET_S
    with run.place() as place, subject.open(place) as opened:
        run.forget_caches()
        load, gets, cpu = machine.load(), there.server.gets(cold.delay_ms), CpuMeter(opened.processes)
        timing = run_readers(_reading(opened.directory, cold.tree, READERS, budget_s))
        gets_a_file = (there.server.gets(cold.delay_ms) - gets) / timing.work
        _record_cold(run, cold, subject.name, number, timing.rate, gets_a_file, load)
        with run.attempt(f"{subject.name}, cold-cpu.{cold.key}"):
            run.record_value(f"cold-cpu.{cold.key}", subject.name, number, cpu.seconds() / timing.work * 1e6, load)
        if warm and timing.work < len(cold.tree.paths):
            run.results.skipped[f"{subject.name}, later epochs"] = f"not all was read within {budget_s:.0f} s before"
        elif warm:
            measure_rows(run, subject.name, opened, warm, number)


def _add_cold_rows(run: Run, cold: Cold) -> None:
    run.results.add_row(f"cold.{cold.key}", f"first epoch, {READERS} readers, {cold.title}", "files/s")
    run.results.add_row(f"cold-cpu.{cold.key}", f"CPU a file, {cold.title}", "us")
    run.results.add_row(f"cold-gets.{cold.key}", f"GETs a file, {cold.title}", "GETs")


def _record_cold(run: Run, cold: Cold, subject: str, number: int, rate: float, gets: float, load: float) -> None:
    run.record_value(f"cold.{cold.key}", subject, number, rate, load)
    run.record_value(f"cold-gets.{cold.key}", subject, number, gets, load)


def _reading(directory: Path, tree: Tree, readers: int, budget_s: float) -> list[Loop]:
    return workload.read_files(directory / SMALL, tree, readers, budget_s)


def _warm_rows(tree: Tree, shuffled: Tree) -> list[Row]:
    def row(key: str, title: str, tree: Tree, readers: int, drops: int) -> Row:
        loops = partial(_reading, tree=tree, readers=readers, budget_s=WARM_BUDGET_S)
        who = "1 reader" if readers == 1 else f"{readers} readers"
        title = f"{title}, {who}, {len(tree.paths):,} files of 10 KB"
        return Row(f"warm.{key}", title, "files/s", loops, drops, warm_up=not drops)

    some = Tree(tree.paths[::PAGE_CACHED], tree.file_bytes)
    return [
        row("dropped", "second epoch, shuffled, page cache dropped", shuffled, READERS, machine.PAGES),
        row("cached.1", "third epoch, page-cached", some, 1, 0),
        row("cached.8", "third epoch, page-cached", some, READERS, 0),
    ]


def _bare_objects(run: Run, there: Remote, delay: int, number: int) -> None:
    """What a loop over all objects gets, 64 requests in flight, in listing order."""
    cold = _listed(there, delay)
    requests = [(f"{PREFIX}/{SMALL}/{path}", None) for path in there.small.paths]
    with run.attempt(f"obstore, cold.{cold.key}"), run.place() as place:
        run.forget_caches()
        load, gets, cpu_file = machine.load(), there.server.gets(delay), place / "cpu"
        loop = bare_gets(there.server.environment(delay), BUCKET, requests, IN_FLIGHT, cpu_file, len(requests))
        timing = run_readers([loop])
        count = (there.server.gets(delay) - gets) / timing.work
        _record_cold(run, cold, "obstore", number, timing.rate, count, load)
        cpu_us = float(cpu_file.read_text()) / timing.work * 1e6
        run.record_value(f"cold-cpu.{cold.key}", "obstore", number, cpu_us, load)
