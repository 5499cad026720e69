"""Results as tables: what was measured, how it compares, which aims are reached.

    python -m bench.report [--markdown] [--page docs/benchmarks.md] [RESULTS.json ...]

Several files of one version and machine become one report. By default those of the newest version that was measured.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench.plots import write_plots
from bench.results import join, read_results
from bench.targets import AIMS, ROWS_OF_AIMS, TARGETS, compared, family, outcome, ratios, value_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.results import Results, RowFacts
    from bench.targets import Target

RESULTS_DIRECTORY = Path(__file__).parent / "results"

OURS = ("erofs", "fuse", "package", "store", "cache")

TITLES = {
    "cold": "First epoch over files of 10 KB in S3, files/s",
    "cold-cpu": "CPU of the client for each of these files, us",
    "cold-gets": "GETs that reached the server for each of these files",
    "warm": "Later epochs over the same files, files/s",
    "sparse": "One file in a hundred, at random, with packs",
    "stream": "One large object, MB/s",
    "random": "Random reads of that object, cold",
    "in-place": "First read of files of 10 KB in the registry `local`, files/s",
    "programs": "Everyday programs on a source tree, warm, files/s",
    "random4k": "Random reads of 4 KiB of a file in the cache",
    "loader": "Epochs of a PyTorch DataLoader with 4 workers over JPEG files of 100 KB, shuffled, 5 ms away, samples/s",
    "names": "Names of a large package: `find` and `ls -lR`, files/s",
    "many": "After the first read of many files: memory of all processes of the mount",
    "copy": "`cp -r` of many tiny files onto the same disk, caches dropped before, files/s",
    "small": "Small files of 10 KB, files/s",
    "large": "One large file, MB/s",
    "s3": "First read from S3 on the same machine, files/s",
    "mount": "The whole `fusepkg mount` command, s",
    "s3-create": "Creating objects in S3 on the same machine, objects/s",
    "cache": "The cache beside files on the same disk, blobs/s",
    "cache-open": "Opening a cache",
    "quilt3-open": "Opening a manifest, beside quilt3",
    "quilt3-push": "Publishing and installing beside quilt3, s",
    "memory": "Memory of all processes of a mount, MB (peak: the most in any session)",
}
"""By the first part of a row's key; one table each."""


def render(results: Results, *, markdown: bool) -> str:
    """Return the whole report."""
    table = _markdown_table if markdown else _plain_table
    heading = "### {}\n" if markdown else "== {}"
    parts = [_preamble(results, markdown=markdown)]
    if results.groups:
        parts.append(table(*_groups(results)))
    measured = {sample.row for sample in results.samples}
    for title, targets in (("Aims and what was measured", AIMS), ("Other aims", TARGETS)):
        if any(target.row in measured for target in targets):
            parts.append(heading.format(title) + "\n" + table(*_targets(results, targets)))
    for key, title in TITLES.items():
        rows = [row for row in results.rows if row.key.partition(".")[0] == key and row.key in measured]
        if rows:
            parts.append(heading.format(title) + "\n" + table(*_compared(results, rows)))
    if results.skipped:
        lines = [f"- {what}: {' '.join(reason.split())[:400]}" for what, reason in results.skipped.items()]
        parts.append(heading.format("Not measured, or failed") + "\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _preamble(results: Results, *, markdown: bool) -> str:
    facts = {
        "measured": results.started,
        **results.machine,
        **results.versions,
        **({} if results.groups else results.options),
        "load average": _loads(results),
    }
    if markdown:
        return ", ".join(f"{name} {value}" for name, value in facts.items())
    return "\n".join(f"{name + ':':14} {value}" for name, value in facts.items())


def _loads(results: Results) -> str:
    loads = [sample.load for sample in results.samples] or [0.0]
    return f"{min(loads):.1f} to {max(loads):.1f}, median {median(loads):.1f}"


def _groups(results: Results) -> tuple[list[str], list[list[str]]]:
    """When each group of rows was measured; the load average is the machine's, the bench's own work included."""
    lines = [
        [
            name if facts.complete else f"{name} (cut short)",
            facts.started,
            f"{facts.minutes:.1f}",
            str(facts.rounds),
            f"{facts.scale:g}",
            f"{facts.load_before:.1f}, {facts.load_after:.1f}",
        ]
        for name, facts in results.groups.items()
    ]
    return ["rows", "measured", "minutes", "rounds", "scale", "load before, after"], lines


def _compared(results: Results, rows: Sequence[RowFacts]) -> tuple[list[str], list[list[str]]]:
    """A column per subject; and where others were measured, our ratios to the best of each family."""
    keys = {row.key for row in rows}
    subjects = list(dict.fromkeys(sample.subject for sample in results.samples if sample.row in keys))
    subjects.sort(key=lambda name: (name != "local", family(name) not in OURS, name))
    families = list(dict.fromkeys(family(name) for name in subjects if family(name) not in OURS))
    ours = [name for name in OURS if name in subjects]
    compared = (
        [(name, other) for other in families for name in ours]
        if rows[0].unit.endswith("/s") and len(families) < 3
        else []
    )
    lines = [
        [
            row.title,
            *(_number(value_of(results, row.key, name)) for name in subjects),
            *(_ratio(ratios(results, row.key, name, other)) for name, other in compared),
        ]
        for row in rows
    ]
    return ["", *subjects, *(f"{name} / {other}" for name, other in compared)], lines


def _targets(results: Results, targets: Sequence[Target]) -> tuple[list[str], list[list[str]]]:
    titles = {row.key: (row.title, row.unit) for row in results.rows}
    lines = []
    for target in targets:
        title, unit = titles.get(target.row, (ROWS_OF_AIMS.get(target.row, target.row), ""))
        kind = (
            "memory, " if target.row.startswith("memory") else "DataLoader, " if target.row.startswith("loader") else ""
        )
        value = outcome(results, target)
        found = _ratio(compared(results, target)) if target.against else _number(value) + (f" {unit}" if value else "")
        verdict = "not measured" if value is None else "yes" if target.is_met(value) else "no"
        lines.append([f"{kind}{title}", target.subject, target.words(unit), found, verdict])
    return ["row", "of", "aim", "measured", "reached"], lines


def _number(value: float | None) -> str:
    """Three digits that say something."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"


def _ratio(found: Sequence[float]) -> str:
    """The median of the rounds, and between which two they lie."""
    if not found:
        return ""
    spread = f" ({_number(min(found))}-{_number(max(found))})" if len(found) > 1 else ""
    return f"{_number(median(found))}{spread}"


def _plain_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in (head, *lines)) for column in range(len(head))]

    def shown(line: Sequence[str]) -> str:
        first, *rest = zip(line, widths, strict=True)
        return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]).rstrip()

    return "\n".join([shown(head), *(shown(line) for line in lines)])


def _markdown_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines))


def write_page(results: Results, page: Path) -> None:
    """Put the report and its pictures into a page, between the lines ``<!-- measured -->`` and ``<!-- end -->``."""
    before, start, rest = page.read_text().partition("<!-- measured -->\n")
    _, end, after = rest.partition("<!-- end -->\n")
    if not (start and end):
        raise SystemExit(f"{page} has no lines <!-- measured --> and <!-- end -->: nothing is written")
    pictures = write_plots(results, page.parent / "benchmarks")
    shown = "".join(f"![{_ALT[path.stem]}](benchmarks/{path.name})\n\n" for path in pictures)
    page.write_text(f"{before}{start}\n{shown}{render(results, markdown=True)}\n{end}{after}")


_ALT = {"cold": "First epoch, files a second, by the delay of each request", "warm": "Later epochs, files a second"}


def newest() -> list[Path]:
    """Return the results of the version and machine that was measured last."""
    found = sorted(RESULTS_DIRECTORY.glob("*.json"))
    if not found:
        raise SystemExit(f"there are no results in {RESULTS_DIRECTORY} yet: make bench")
    last = read_results(found[-1])
    several = {path: read_results(path) for path in found}
    return [path for path, one in several.items() if (one.machine, one.versions) == (last.machine, last.versions)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report of some files, or write it into a page."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description="Show the results of a run.")
    parser.add_argument("results", type=Path, nargs="*", help="default: all of the version that was measured last")
    parser.add_argument("--markdown", action="store_true", help="tables for a page")
    parser.add_argument("--page", type=Path, help="write tables and pictures into this page instead")
    chosen = parser.parse_args(arguments)
    try:
        results = join([read_results(path) for path in chosen.results or newest()])
    except ValueError as exc:
        raise SystemExit(str(exc)) from exc
    if chosen.page:
        write_page(results, chosen.page)
    else:
        sys.stdout.write(render(results, markdown=chosen.markdown))
    return 0


if __name__ == "__main__":
    sys.exit(main())
