"""Install a package into a directory: fetch missing and outdated files, keep files that the user changed.

Files land one by one, each whole and verified, so an install can be interrupted at any time; the next one goes on from
there.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg.errors import InstallError
from fusepkg.fetch.chunks import is_chunked
from fusepkg.install.target import STAGING, opened_target
from fusepkg.install.write import Job, Result, Writer
from fusepkg.model.entry import EntryKind
from fusepkg.state.install_record import InstallRecord
from fusepkg.work.progress import Phase, PhaseCounters, no_progress
from fusepkg.work.threads import StopFlag, run_threads
from fusepkg.work.walk import place_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from fusepkg.fetch.direct import DirectReader
    from fusepkg.fetch.pack_reader import PackReader
    from fusepkg.index.opening import Index
    from fusepkg.install.write import LargeFile, Outcome
    from fusepkg.model.entry import Entry
    from fusepkg.state.install_record import WrittenFile
    from fusepkg.work.progress import ProgressCallback

THREADS = 16
"""Files fetched at a time: enough to hide a round trip behind others."""

_BATCH_FILES = 16
_BATCH_BYTES = 1 << 20
"""Small files of one piece of work: a thread's hand-over costs as much as writing one."""

_PACKED_BATCH_FILES = 128
"""The same where the version has packs: those of one piece of work come with a request or two."""

_END_TIMEOUT_S = 60.0
"""How long an interrupted install waits for the requests under way."""


@dataclass(frozen=True, slots=True)
class InstallReport:
    """The result of an install. ``kept`` are the logical keys of files that the user changed; they were not touched."""

    written: int
    written_bytes: int
    there: int
    kept: tuple[str, ...]


def install(
    index: Index,
    reference: str,
    directory: Path,
    reader: DirectReader,
    data_dir: Path,
    *,
    outside_links: bool = False,
    time_s: int | None = None,
    progress: ProgressCallback = no_progress,
) -> InstallReport:
    """Install one version of a package into a directory; ``reference`` is stored in its record.

    What the user changed stays, and so do files that are not in the package. With ``outside_links``, links that lead
    out of the package are written as they are, otherwise so that they cannot be followed. What is written gets the time
    ``time_s`` (Unix), or that of its content.

    Raises InstallError, RemoteError, IntegrityError.
    """
    counters = PhaseCounters(progress, Phase.DOWNLOAD, total=len(index.entries), total_bytes=index.total_bytes)
    with opened_target(directory) as target, _recorded(data_dir, directory) as record:
        record.start(reference, index.top_hash, into_empty=target.was_empty)
        stop = StopFlag()
        writer = Writer(target, reader, stop, outside_links=outside_links, time_s=time_s)
        run = _Run(writer, reader.open_packs(index), record, counters, stop)
        run.all(_with_known(index.entries, record.files()))
        record.finish()
        return run.report()


def write_anew(
    index: Index,
    reference: str,
    directory: Path,
    reader: DirectReader,
    data_dir: Path,
    *,
    entries: Iterable[Entry],
    removed: Iterable[tuple[str, bool]] = (),
    outside_links: bool = False,
    time_s: int | None = None,
    progress: ProgressCallback = no_progress,
) -> InstallReport:
    """Remove files (by name, and whether each is an empty directory), and write entries over existing files.

    Raises InstallError, RemoteError, IntegrityError.
    """
    wanted = list(entries)
    counters = PhaseCounters(
        progress, Phase.DOWNLOAD, total=len(wanted), total_bytes=sum(entry.size for entry in wanted)
    )
    with opened_target(directory) as target, _recorded(data_dir, directory) as record:
        record.start(reference, index.top_hash, into_empty=target.was_empty)
        for name, is_directory in removed:
            target.remove(name, is_directory=is_directory)
        stop = StopFlag()
        writer = Writer(target, reader, stop, outside_links=outside_links, time_s=time_s)
        run = _Run(writer, reader.open_packs(index), record, counters, stop)
        run.all(Job(entry, replace=True) for entry in wanted)
        report = run.report()
        if report.kept:
            raise InstallError(
                f"{directory}/{report.kept[0]} cannot be written: something is in its place",
                hint="Move that away and try again",
            )
        record.finish(is_nothing_else=True)
        return report


@contextmanager
def _recorded(data_dir: Path, directory: Path) -> Iterator[InstallRecord]:
    record = InstallRecord(data_dir, directory)
    try:
        yield record
    finally:
        record.close()


def _with_known(entries: Iterable[Entry], files: Iterator[WrittenFile]) -> Iterator[Job]:
    """Yield each entry with the file an earlier install wrote under its name; both come in tree order."""
    known = next(files, None)
    for entry in entries:
        if entry.logical_key.startswith(f"{STAGING}/"):
            raise InstallError(
                f"{entry.logical_key}: a package with files of that name cannot be installed", hint="Mount it instead"
            )
        place = place_of(entry.logical_key)
        while known is not None and known.place < place:
            known = next(files, None)
        yield Job(entry, known if known is not None and known.place == place else None)


class _Run:
    """One install; everything but the work of the threads happens in the calling thread."""

    def __init__(
        self,
        writer: Writer,
        packs: PackReader | None,
        record: InstallRecord,
        counters: PhaseCounters,
        stop: StopFlag,
    ) -> None:
        self._writer = writer
        self._packs = packs
        self._record = record
        self._counters = counters
        self._stop = stop
        self._large: list[Job] = []
        self._begun: list[LargeFile] = []
        self._working = _Working()
        self._results = dict.fromkeys(Result, 0)
        self._written_bytes = 0
        self._kept: list[str] = []

    def all(self, jobs: Iterator[Job]) -> None:
        """Write all jobs: small files first, then large ones with all threads on each."""
        try:
            run_threads(
                self._work, self._batches(jobs), self._collect, threads=THREADS, name="fusepkg-install", stop=self._stop
            )
            run_threads(
                self._work_on, self._parts(), self._collect, threads=THREADS, name="fusepkg-install", stop=self._stop
            )
        finally:
            # An interrupt does not wait for the threads, but their descriptors must not be closed under them.
            if self._working.wait(_END_TIMEOUT_S):
                for large in self._begun:
                    large.close()

    def report(self) -> InstallReport:
        """Return the result."""
        return InstallReport(
            self._results[Result.WRITTEN], self._written_bytes, self._results[Result.THERE], tuple(sorted(self._kept))
        )

    def _work(self, batch: list[Job]) -> list[Outcome | Job]:
        with self._working:
            outcomes: list[Outcome | Job] = []
            missing: list[Job] = []
            for job in batch:
                self._stop.check()
                settled = self._writer.settle(job)
                if settled is not None:
                    outcomes.append(settled)
                elif is_chunked(job.entry) and job.entry.kind is not EntryKind.SYMLINK:
                    outcomes.append(job)
                else:
                    missing.append(job)
            blobs = self._writer.read_together([job.entry for job in missing], self._packs)
            for job in missing:
                self._stop.check()
                outcomes.append(self._writer.write(job, blobs.get(job.entry.digest)))
            return outcomes

    def _batches(self, jobs: Iterator[Job]) -> Iterator[list[Job]]:
        most_files = _BATCH_FILES if self._packs is None else _PACKED_BATCH_FILES
        batch: list[Job] = []
        batch_bytes = 0
        for job in jobs:
            batch.append(job)
            batch_bytes += job.entry.size
            if len(batch) >= most_files or batch_bytes >= _BATCH_BYTES:
                yield batch
                batch, batch_bytes = [], 0
        if batch:
            yield batch

    def _parts(self) -> Iterator[tuple[LargeFile, int]]:
        for job in self._large:
            large = self._writer.begin(job)
            self._begun = [begun for begun in self._begun if begun.descriptor >= 0]
            self._begun.append(large)
            for index in range(len(large.values)):
                yield large, index

    def _work_on(self, part: tuple[LargeFile, int]) -> list[Outcome | Job]:
        with self._working:
            outcome = self._writer.write_part(*part)
            return [] if outcome is None else [outcome]

    def _collect(self, outcomes: list[Outcome | Job]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, Job):
                self._large.append(outcome)
                continue
            self._results[outcome.result] += 1
            if outcome.result is Result.WRITTEN:
                self._written_bytes += outcome.entry.size
            if outcome.result is Result.KEPT:
                self._kept.append(outcome.entry.logical_key)
            elif outcome.file is not None:
                self._record.add(outcome.file)
            self._counters.add(1, outcome.entry.size)


class _Working:
    """Counts the threads that are working."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0

    def __enter__(self) -> None:
        with self._changed:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Wait until none is working; return whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._count, timeout_s)
