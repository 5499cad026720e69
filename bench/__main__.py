"""``python -m bench``: measure, write the results, show them. ``make bench`` sets up what it needs and calls this."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from bench import machine
from bench.groups import GROUPS
from bench.report import RESULTS_DIRECTORY, render, write_page
from bench.results import GroupFacts, Results, join, write_results
from bench.rows import Run
from bench.scratch import scratch_directory
from bench.subjects import juicefs, rclone, s3fs

if TYPE_CHECKING:
    from collections.abc import Sequence

_CHECKOUT = Path(__file__).parents[1]


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure fusepkg beside the disk and its peers."
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured (default 3)")
    parser.add_argument("--rows", default="all", help=f"groups of rows, with commas: {', '.join(GROUPS)} (default all)")
    parser.add_argument("--scale", type=float, default=1.0, help="shrinks every workload, to try the bench itself")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="on the disk to measure")
    parser.add_argument("--sources", type=Path, help="a source tree, e.g. Linux; default: Python's standard library")
    parser.add_argument("--dry", action="store_true", help="one pass of each row, no caches dropped: tests the bench")
    parser.add_argument("--results", type=Path, default=RESULTS_DIRECTORY, help="where every sample is kept")
    parser.add_argument("--page", type=Path, help="a page to write tables and pictures into, docs/benchmarks.md")
    chosen = parser.parse_args(arguments)
    chosen.groups = list(GROUPS) if chosen.rows == "all" else chosen.rows.split(",")
    if unknown := set(chosen.groups) - set(GROUPS):
        parser.error(f"there are no rows {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    if chosen.rounds < 1 or not 0 < chosen.scale <= 1:
        parser.error("--rounds starts at 1, --scale lies above 0 and goes up to 1")
    if chosen.sources and not chosen.sources.is_dir():
        parser.error(f"--sources {chosen.sources} is no directory")
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure one group after another, each into a file of its own.

    Returns 130 if the run was interrupted; the samples taken by then are kept.
    """
    chosen = _arguments(arguments)
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _interrupt)
    done: list[Results] = []
    interrupted = False
    try:
        with scratch_directory(chosen.scratch) as scratch, ExitStack() as stack:
            whole = Run(_results(chosen, ""), scratch, chosen.rounds, chosen.scale, chosen.dry, chosen.sources, stack)
            for name in chosen.groups:
                done.append(_results(chosen, name))
                _measure_group(name, whole.for_group(done[-1]), chosen.results)
    except KeyboardInterrupt:
        interrupted = True
        sys.stderr.write("interrupted; everything was unmounted and removed\n")
    if measured := [one for one in done if one.samples or one.skipped]:
        try:
            joined = join(measured)
        except ValueError as exc:  # the checkout was changed meanwhile; the samples are kept all the same
            raise SystemExit(f"{exc}; every sample is in {chosen.results}") from exc
        sys.stdout.write(render(joined, markdown=False) + f"\nEvery sample: {chosen.results}\n")
        if chosen.page and not interrupted:
            write_page(joined, chosen.page)
    return 130 if interrupted else 0


def _results(chosen: argparse.Namespace, group: str) -> Results:
    return Results(
        started=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        machine=machine.describe(chosen.scratch),
        versions={**machine.versions(_CHECKOUT), **_peers()},
        options={"rounds": str(chosen.rounds), "rows": group, "scale": f"{chosen.scale:g}"},
    )


@cache
def _peers() -> dict[str, str]:
    return {"rclone": rclone.version(), "juicefs": juicefs.version(), "s3fs": s3fs.version()}


def _measure_group(name: str, run: Run, directory: Path) -> None:
    """Measure a group in all rounds. Whatever ends it, the samples taken by then are written."""
    results = run.results
    path = (
        directory / f"{results.started.replace('-', '').replace(':', '').replace(' ', 'T', 1).split()[0]}-{name}.json"
    )
    started, load = time.monotonic(), machine.load()

    def keep() -> None:
        minutes = round((time.monotonic() - started) / 60, 1)
        results.groups[name] = GroupFacts(
            started=results.started, minutes=minutes, rounds=run.rounds, scale=run.scale,
            load_before=load, load_after=machine.load(), complete=results.complete,
        )  # fmt: skip
        if results.samples or results.skipped:
            write_results(results, path)

    try:
        with ExitStack() as stack, run.attempt(name):
            measure = GROUPS[name](run, stack)
            for number in range(run.rounds):
                measure(number)
                keep()
        results.complete = bool(results.samples)
    finally:
        keep()


def _interrupt(*_: object) -> NoReturn:
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_IGN)  # cleaning up is not to be interrupted
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
