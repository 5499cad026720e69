"""How long `fusepkg mount` takes, as a user sees it: the whole command, from its start to its end.

The package has a manifest and no objects: a mount reads none before somebody reads a file.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bench import machine
from bench.manifests import TAG, publish_entries, synthetic_entries
from bench.memory import Peak
from bench.rows import Run, record_memory
from bench.subjects import fusepkg

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

    from bench.rows import Measure


ENTRIES = 100_000

NAME = "synthetic"

INDEXED_MOUNTS = 3
"""Mounts with an index per round: they are quick, so the median of more is to be had cheaply."""


def mount_times(run: Run, _stack: ExitStack) -> Measure:
    """The first mount of a version on a machine, and the later ones, with either engine."""
    entries = run.scaled(ENTRIES)
    data = run.scratch / "data"
    publish_synthetic(data, entries, run.scratch)
    run.results.add_row("mount.new", f"mount of {entries:,} entries, no index yet", "s")
    run.results.add_row("mount.indexed", f"mount of {entries:,} entries, with index", "s")
    engines = [engine for engine in fusepkg.ENGINES if not fusepkg.why_not(engine)]
    run.results.skipped.update({one: fusepkg.why_not(one) for one in fusepkg.ENGINES if one not in engines})

    def measure(number: int) -> None:
        for engine in engines:
            with run.attempt(f"{engine}, mount"), run.place() as place:
                _time_mounts(run, engine, place, number, {"FUSEPKG_DATA_DIR": str(data)})

    return measure


def publish_synthetic(data: Path, entries: int, scratch: Path, tag: str = TAG) -> None:
    """Publish a package of that many entries, whose objects are nowhere, in the registry `local`."""
    publish_entries(data, scratch, NAME, synthetic_entries(entries), tag)


def _time_mounts(run: Run, engine: str, place: Path, number: int, settings: dict[str, str]) -> None:
    environ = fusepkg.environment(place, settings)
    reference = f"local/{NAME}:{TAG}"
    mount = partial(fusepkg.mounted, engine, reference, place / "mount", environ)
    for repeat in range(1 + INDEXED_MOUNTS):
        load = machine.load()
        with mount() as opened:
            row = "mount.new" if repeat == 0 else "mount.indexed"
            run.record_value(row, engine, number, opened.mount_s, load)
            record_memory(run, engine, Peak(opened.processes), number)
