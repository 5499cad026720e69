"""Rows, and how one is measured on one subject.

A session opens a subject with cold caches, measures its rows in their order, and closes it. Sessions of all subjects
follow one another within a round, so that what is compared was measured within seconds or a minute of each other.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bench import machine, workload
from bench.failed import SubjectFailed
from bench.memory import KINDS, Peak
from bench.readers import ReaderFailed, Timing, run_readers
from bench.results import Results, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.subjects.subject import Opened, Subject
    from bench.workload import Loop, Tree

MIN_MEASURED_S = 1.0
"""A row that takes less is repeated until its passes together take this: a tenth of a second is mostly noise."""

MAX_PASSES = 15

_EXPECTED = (SubjectFailed, ReaderFailed)
"""Errors whose message says all; of others the report shows the line that raised them."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Row:
    """A function of a directory: what its readers do. ``drops`` is what of the kernel's caches is dropped before each
    pass; a row with ``once`` changes what it measures, and so has one pass; one with ``warm_up`` is read once before,
    so that a slow subject's only pass finds as much in the page cache as the last of a fast one's."""

    key: str
    title: str
    unit: str
    loops: Callable[[Path], list[Loop]]
    drops: int = 0
    once: bool = False
    warm_up: bool = False


Measure = Callable[[int], None]
"""Measures one round of a group, given its number."""


@dataclass(frozen=True, slots=True)
class Run:
    """One group of rows within a run of the bench. ``scale`` shrinks every workload.

    ``dry`` is a run that judges no time: each row has one pass, and the kernel's caches are left alone. ``sources`` is
    a tree of source files, if one was named. ``stack`` and ``shared`` are of the whole run: see ``once``.
    """

    results: Results
    scratch: Path
    rounds: int
    scale: float
    dry: bool = False
    sources: Path | None = None
    stack: ExitStack = field(default_factory=ExitStack)
    shared: dict[str, Any] = field(default_factory=dict)

    def for_group(self, results: Results) -> Run:
        """Return the same run, with the results of another group."""
        return replace(self, results=results)

    def once(self, name: str, make: Callable[[], _T]) -> _T:
        """Return what ``make`` returns, and that again when another group asks for the same name."""
        if name not in self.shared:
            self.shared[name] = make()
        made: _T = self.shared[name]
        return made

    def forget_caches(self) -> None:
        """Drop all caches of the kernel before a cold row. Raises SubjectFailed if only root could."""
        if self.dry:
            return
        if reason := machine.why_no_drop():
            raise SubjectFailed(f"not measured cold: {reason}")
        machine.drop_caches(machine.ALL)

    def scaled(self, number: int) -> int:
        """That much of a workload, at the run's scale."""
        return max(1, round(number * self.scale))

    def record(self, sample: Sample) -> None:
        """Keep a sample; show it, unless it is one of the many of memory."""
        self.results.samples.append(sample)
        row, subject, number, value = sample.row, sample.subject, sample.round, sample.value
        if row.startswith("memory"):
            return
        unit = next(facts.unit for facts in self.results.rows if facts.key == row)
        sys.stderr.write(
            f"round {number + 1}/{self.rounds}  {subject:14} {row:24} {value:12,.{2 if unit == 's' else 0}f} {unit}\n"
        )

    def record_value(self, row: str, subject: str, number: int, value: float, load: float | None = None) -> None:
        """Keep a value of one pass; ``load`` is the load average before it, by default that of now."""
        load = machine.load() if load is None else load
        self.record(Sample(row=row, subject=subject, round=number, value=value, passes=[], load=load))

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Name a subject that fails in the report; the others go on, whatever the error is."""
        try:
            yield
        except Exception as exc:  # noqa: BLE001 - one row must not lose the others
            said = str(exc) if isinstance(exc, _EXPECTED) else "".join(traceback.format_exception(exc)[-2:])
            self.results.skipped[what] = said
            sys.stderr.write(f"{what} FAILED: {said}\n")

    @contextmanager
    def place(self) -> Iterator[Path]:
        """An empty directory for one opening of a subject."""
        with tempfile.TemporaryDirectory(dir=self.scratch, prefix="open-", ignore_cleanup_errors=True) as place:
            yield Path(place)


def in_order_of_round(subjects: Sequence[Subject], number: int) -> list[Subject]:
    """Every other round goes backwards, so that nobody always comes first."""
    return list(subjects if number % 2 == 0 else reversed(subjects))


def usable(run: Run, subjects: Sequence[Subject]) -> list[Subject]:
    """The subjects that can run here; of the others the reason is kept."""
    run.results.skipped.update({subject.name: subject.why_not for subject in subjects if subject.why_not})
    return [subject for subject in subjects if not subject.why_not]


def run_session(run: Run, subject: Subject, rows: Sequence[Row], number: int, beside: Path | None = None) -> None:
    """Open a subject, measure rows on it, and what memory it took meanwhile; ``beside`` see ``measure``."""
    for row in rows:
        run.results.add_row(row.key, row.title, row.unit)
    with run.attempt(f"{subject.name}, {rows[0].key}"), run.place() as place, subject.open(place) as opened:
        measure_rows(run, subject.name, opened, rows, number, beside)


def measure_rows(
    run: Run, subject: str, opened: Opened, rows: Sequence[Row], number: int, beside: Path | None = None
) -> None:
    """Measure rows on an opened subject, and what memory it took meanwhile; ``beside`` see ``measure``."""
    peak = Peak(opened.processes)
    for row in rows:
        run.results.add_row(row.key, row.title, row.unit)
        if run.dry:
            row = replace(row, drops=0, once=True)
        if row.drops and (reason := machine.why_no_drop()):
            run.results.skipped[row.key] = reason
            continue
        load = machine.load()
        passes, others = measure(row, opened.directory, peak, None if row.once else beside)
        run.record(
            Sample(
                row=row.key,
                subject=subject,
                round=number,
                value=sum(one.work for one in passes) / sum(one.seconds for one in passes),
                passes=[one.rate for one in passes],
                beside=[one.rate for one in others],
                load=load,
            )
        )
        peak.look()
    record_memory(run, subject, peak, number)


def measure(row: Row, directory: Path, peak: Peak, beside: Path | None) -> tuple[list[Timing], list[Timing]]:
    """All passes of one row; and as many of the folder ``beside``, in turn with them.

    What is compared most closely has to be measured at the same time: another program may have one of the processors
    for just as long as a session takes.
    """

    def one_pass(place: Path) -> Timing:
        if row.drops:
            machine.drop_caches(row.drops)
        return run_readers(row.loops(place), peak.look)

    if row.warm_up:
        one_pass(directory)
    passes: list[Timing] = []
    others: list[Timing] = []
    if beside is not None and not row.drops:
        one_pass(beside)  # its pages were dropped before, or never read
    while True:
        passes.append(one_pass(directory))
        if beside is not None:
            others.append(one_pass(beside))
        spent = sum(one.seconds for one in passes)
        if row.once or spent >= MIN_MEASURED_S or len(passes) == MAX_PASSES:
            return passes, others


def record_memory(run: Run, subject: str, peak: Peak, number: int) -> None:
    """The peak of a session's memory, and what is left at its end; nothing for a subject without processes."""
    left = peak.look()
    for moment, found in (("peak", peak.seen), ("after", left)):
        for kind in KINDS:
            key = f"memory.{moment}.{kind}"
            run.results.add_row(key, f"{'peak' if moment == 'peak' else 'at the end'}, {KINDS[kind]}", "MB")
            if peak.seen["rss"]:
                value = round(found[kind], 1)
                run.record_value(key, subject, number, value)


def small_file_sessions(tree: Tree) -> list[list[Row]]:
    """Sessions over many small files."""

    def walking(directory: Path) -> list[Loop]:
        return [workload.walk(directory, tree)]

    def reading_first(readers: int) -> Callable[[Path], list[Loop]]:
        return partial(workload.read_files, tree=tree, readers=readers)

    def reading(readers: int) -> Callable[[Path], list[Loop]]:
        return partial(workload.read_files, tree=tree, readers=readers, budget_s=workload.BUDGET_S)

    rate = "files/s"
    everything = [
        Row("small.walk.dropped", "walk + stat, caches dropped", rate, walking, machine.ALL),
        Row("small.walk.warm", "walk + stat, again", rate, walking),
        Row("small.first.4", "first read, 4 readers", rate, reading_first(4), machine.ALL, once=True),
        Row("small.cached.1", "page-cached, 1 reader", rate, reading(1)),
        Row("small.cached.4", "page-cached, 4 readers", rate, reading(4)),
        Row("small.dropped.1", "pages dropped, 1 reader", rate, reading(1), machine.PAGES),
        Row("small.dropped.4", "pages dropped, 4 readers", rate, reading(4), machine.PAGES),
    ]
    return [
        everything,
        [Row("small.first.1", "first read, 1 reader", rate, reading_first(1), machine.ALL, once=True)],
    ]


def large_file_sessions(tree: Tree) -> list[list[Row]]:
    """The session over one large file."""
    reading = partial(workload.read_large, tree=tree)
    return [
        [
            Row("large.first", "large file, first read", "MB/s", reading, machine.ALL, once=True),
            Row("large.cached", "large file, page-cached", "MB/s", reading),
            Row("large.dropped", "large file, pages dropped", "MB/s", reading, machine.PAGES),
        ]
    ]
