"""``python -m bench``: measure, write the results, show them. ``make bench`` sets up what it needs and calls this."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from bench import machine
from bench.groups import GROUPS
from bench.report import RESULTS_DIRECTORY, render, write_page
from bench.results import Results, write_results
from bench.rows import Run
from bench.scratch import scratch_directory
from bench.subjects import rclone

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
    parser.add_argument("--dry", action="store_true", help="one pass of each row, no caches dropped: tests the bench")
    parser.add_argument("--results", type=Path, default=RESULTS_DIRECTORY, help="where every sample is kept")
    parser.add_argument("--page", type=Path, help="a page to write tables and pictures into, docs/benchmarks.md")
    chosen = parser.parse_args(arguments)
    chosen.groups = list(GROUPS) if chosen.rows == "all" else chosen.rows.split(",")
    if unknown := set(chosen.groups) - set(GROUPS):
        parser.error(f"there are no rows {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    if chosen.rounds < 1 or not 0 < chosen.scale <= 1:
        parser.error("--rounds starts at 1, --scale lies above 0 and goes up to 1")
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """One run. Ends with 130 where it was interrupted; what was measured by then is kept all the same."""
    chosen = _arguments(arguments)
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _interrupt)
    started = datetime.now(UTC)
    results = Results(
        started=f"{started:%Y-%m-%d %H:%M} UTC",
        machine=machine.describe(chosen.scratch),
        versions={**machine.versions(_CHECKOUT), "rclone": rclone.version()},
        options={"rounds": str(chosen.rounds), "rows": chosen.rows, "scale": f"{chosen.scale:g}"},
    )
    path = chosen.results / f"{started:%Y%m%dT%H%M%SZ}.json"
    try:
        with scratch_directory(chosen.scratch) as scratch, ExitStack() as stack:
            run = Run(results, scratch, chosen.rounds, chosen.scale, chosen.dry)
            measures = [GROUPS[name](run, stack) for name in chosen.groups]
            for number in range(chosen.rounds):
                for measure in measures:
                    measure(number)
        results.complete = True
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; everything was unmounted and removed\n")
    after = machine.versions(_CHECKOUT)["fusepkg"]
    if after != results.versions["fusepkg"]:
        results.skipped["one version"] = f"the checkout changed during the run, it is {after} by now: measure again"
    if results.samples:
        write_results(results, path)
        sys.stdout.write(render(results, markdown=False) + f"\nEvery sample: {path}\n")
        if chosen.page and results.complete:
            write_page(results, chosen.page)
    return 0 if results.complete else 130


def _interrupt(*_: object) -> NoReturn:
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_IGN)  # cleaning up is not to be interrupted
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
