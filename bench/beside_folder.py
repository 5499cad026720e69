"""A folder of this disk, and the same files as a package of the registry `local`, mounted with each engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.manifests import TAG, folder_entries, publish_entries
from bench.rows import in_order_of_round, run_session, usable
from bench.subjects import fusepkg
from bench.subjects.local import local

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from bench.rows import Measure, Row, Run
    from bench.subjects.subject import Subject
    from fusepkg.model.entry import Entry


def beside_folder(run: Run, source: Path, entries: Iterable[Entry] | None = None) -> list[Subject]:
    """Return the folder and its mounts; by default the objects are the folder's files where they lie."""
    data = run.scratch / "data"
    publish_entries(data, run.scratch, source.name, folder_entries(source) if entries is None else entries)
    return subjects_of(run, source, {"FUSEPKG_DATA_DIR": str(data)})


def subjects_of(run: Run, source: Path, settings: dict[str, str]) -> list[Subject]:
    """Return the folder, and the mounts of the package of its name."""
    reference = f"local/{source.name}:{TAG}"
    mounts = [fusepkg.fusepkg(engine, reference, settings) for engine in fusepkg.ENGINES]
    return usable(run, [local(source), *mounts])


def in_sessions(run: Run, subjects: Sequence[Subject], rows: Sequence[Row]) -> Measure:
    """Return what measures all rows in one session of each subject."""

    def measure(number: int) -> None:
        for subject in in_order_of_round(subjects, number):
            run_session(run, subject, rows, number)

    return measure
