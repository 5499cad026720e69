"""Objects of buckets as candidates: each line of the JSON is read, or is there already, or failed for a reason."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, TypeAlias

from fusepkg.datasets.candidates import Candidate, dicom_series, find_object, image_groups, stored_file
from fusepkg.datasets.private_data import FailedLine, place_of
from fusepkg.datasets.rows import DataType
from fusepkg.errors import CredentialsMissing, FusepkgError
from fusepkg.work.threads import StopFlag, run_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fusepkg.app.context import Context
    from fusepkg.datasets.candidates import ListedObject
    from fusepkg.datasets.private_data import Line, PrivateData
    from fusepkg.datasets.rows import DataRow

    Answer: TypeAlias = "list[Candidate] | list[DataRow] | FailedLine"
    _BySource: TypeAlias = "dict[tuple[DataType, str], list[DataRow]]"
    """Rows by their kind and what they were made of."""

_THREADS = 8
"""Lines read at a time, and files of each: every one holds a copy of its object on the disk."""


@dataclass(slots=True)
class ReadLines:
    """What came of the lines: rows to add, rows that are there, and lines that failed; in the order of the JSON."""

    candidates: list[Candidate] = field(default_factory=list)
    there: list[DataRow] = field(default_factory=list)
    failed: list[FailedLine] = field(default_factory=list)


def read_lines(
    context: Context,
    asked: PrivateData,
    rows: Sequence[DataRow],
    endpoint: str | None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> ReadLines:
    """Read the objects that lines name, those of rows that are there not again. Raises CredentialsMissing."""
    answers: dict[str, Answer] = {}
    there = _by_source(rows)

    def work(line: Line) -> tuple[Line, Answer]:
        try:
            return line, _read_line(context, line, there, endpoint)
        except CredentialsMissing:
            raise
        except FusepkgError as exc:
            return line, FailedLine(line.where, line.urls, str(exc), exc.code)

    def collect(answer: tuple[Line, Answer]) -> None:
        answers[answer[0].where] = answer[1]
        progress(len(answers), len(asked.lines))

    run_threads(work, asked.lines, collect, threads=_THREADS, name="fusepkg-data", stop=StopFlag())
    read = ReadLines(failed=list(asked.failed))
    for line in asked.lines:
        answer = answers[line.where]
        if isinstance(answer, FailedLine):
            read.failed.append(answer)
            continue
        for one in answer:
            if isinstance(one, Candidate):
                read.candidates.append(one)
            else:
                read.there.append(one)
    return read


def _read_line(context: Context, line: Line, rows: _BySource, endpoint: str | None) -> Answer:
    with ThreadPoolExecutor(min(_THREADS, len(line.urls)), thread_name_prefix="fusepkg-files") as threads:
        return _read_files(context, line, rows, endpoint, threads)


def _read_files(
    context: Context, line: Line, rows: _BySource, endpoint: str | None, threads: ThreadPoolExecutor
) -> Answer:
    found = list(threads.map(lambda url: find_object(context, place_of(url, endpoint)), line.urls))
    names = [PurePosixPath(one.place.key).name for one in found]
    title = line.title or names[0]
    if there := _rows_of(line.kind, title, found, rows):
        return there
    kind = DataType.IMAGE if line.kind is DataType.IMG_GROUP else line.kind
    files = list(threads.map(lambda one, name: stored_file(context, one, kind, name), found, names))
    if line.kind is DataType.IMG_GROUP:
        return image_groups(files, title, line.where, split=line.split, client_metadata=line.client_metadata)
    if line.kind is DataType.DICOM:
        return dicom_series(files, title, line.where, client_metadata=line.client_metadata)
    return [Candidate(line.kind, title, files, line.where, line.client_metadata)]


def _by_source(rows: Iterable[DataRow]) -> _BySource:
    found: _BySource = {}
    for row in rows:
        for source in row.sources:
            if source is not None:
                found.setdefault((row.data_type, source), []).append(row)
    return found


def _rows_of(kind: DataType, title: str, found: Sequence[ListedObject], rows: _BySource) -> list[DataRow]:
    """Return the rows that these very objects make up already; none if one of them is in no such row.

    Rows of several files may have been split, which their titles say after the one that was asked for.
    """
    several = kind in (DataType.IMG_GROUP, DataType.DICOM)
    distinct: dict[str, DataRow] = {}
    for one in found:
        fit = [
            row
            for row in rows.get((kind, one.source), ())
            if row.title == title or (several and row.title.startswith(f"{title} "))
        ]
        if not fit:
            return []
        distinct |= {row.uid: row for row in fit}
    return list(distinct.values())
