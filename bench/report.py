"""Results as tables: what was measured, how it compares, which targets are met.

python -m bench.report [--markdown] [RESULTS.json]     the newest results where none are named
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench.plots import write_plots
from bench.results import read_results
from bench.targets import TARGETS, family, outcome, ratios, value_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.results import Results, RowFacts

RESULTS_DIRECTORY = Path(__file__).parent / "results"

OURS = ("erofs", "fuse", "package", "store", "cache")

TITLES = {
    "cold": "First epoch over files of 10 KB in S3, files/s",
    "cold-cpu": "CPU of the client for each of these files, us",
    "cold-gets": "GETs that reached the server for each of these files",
    "sparse": "One file in a hundred, at random, with packs",
    "warm": "Later epochs over the same files, files/s",
    "stream": "One object of 1 GiB, MB/s",
    "random": "Random reads of that object, cold",
    "programs": "Everyday programs on Python's standard library, warm, files/s",
    "random4k": "Random reads of 4 KiB of a cached file",
    "small": "Small files of 10 KB, files/s",
    "large": "One large file, MB/s",
    "loader": "Epochs of a PyTorch DataLoader with 4 workers over JPEG files of 100 KB, shuffled, 5 ms away, samples/s",
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
    """The whole report."""
    table = _markdown_table if markdown else _plain_table
    heading = "### {}\n" if markdown else "== {}"
    parts = [_preamble(results, markdown=markdown)]
    for key, title in TITLES.items():
        rows = [row for row in results.rows if row.key.partition(".")[0] == key]
        rows = [row for row in rows if any(sample.row == row.key for sample in results.samples)]
        if rows:
            parts.append(heading.format(title) + "\n" + table(*_compared(results, rows)))
    parts.append(heading.format("Targets") + "\n" + table(*_targets(results)))
    if results.skipped:
        lines = [f"- {what}: {reason.strip()[:400]}" for what, reason in results.skipped.items()]
        parts.append(heading.format("Not measured, or failed") + "\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _preamble(results: Results, *, markdown: bool) -> str:
    facts = {
        "measured": results.started + ("" if results.complete else " (cut short)"),
        **results.machine,
        **results.versions,
        **results.options,
        "load average": _loads(results),
    }
    if markdown:
        return ", ".join(f"{name} {value}" for name, value in facts.items())
    return "\n".join(f"{name + ':':14} {value}" for name, value in facts.items())


def _loads(results: Results) -> str:
    loads = [sample.load for sample in results.samples] or [0.0]
    return f"{min(loads):.1f} to {max(loads):.1f}, median {median(loads):.1f}"


def _compared(results: Results, rows: Sequence[RowFacts]) -> tuple[list[str], list[list[str]]]:
    """A column per subject; and where others were measured, our ratios to the best of each family."""
    keys = {row.key for row in rows}
    subjects = list(dict.fromkeys(sample.subject for sample in results.samples if sample.row in keys))
    subjects.sort(key=lambda name: (name != "local", name not in OURS, name))
    families = list(dict.fromkeys(family(name) for name in subjects if name not in OURS))
    ours = [name for name in OURS if name in subjects]
    compared = (
        [(name, other) for other in families for name in ours]
        if rows[0].unit.endswith("/s") and len(families) < 3
        else []
    )
    lines = [
        [
            row.title,
            *(_number(value_of(results, row.key, name), row.unit) for name in subjects),
            *(_ratio(ratios(results, row.key, name, other)) for name, other in compared),
        ]
        for row in rows
    ]
    return ["", *subjects, *(f"{name} / {other}" for name, other in compared)], lines


def _targets(results: Results) -> tuple[list[str], list[list[str]]]:
    titles = {row.key: (row.title, row.unit) for row in results.rows}
    lines = []
    for target in TARGETS:
        title, unit = titles.get(target.row, (target.row, ""))
        kind = "memory, " if target.row.startswith("memory") else ""
        what = f"{target.subject} / {target.against}" if target.against else target.subject
        sign = "at least" if target.at_least else "below"
        value = outcome(results, target)
        if target.against:
            wanted, found = (
                f"{sign} {target.limit:.2g}",
                _ratio(ratios(results, target.row, target.subject, target.against)),
            )
        else:
            wanted, found = f"{sign} {target.limit:g} {unit}", _number(value, unit)
        verdict = "not measured" if value is None else "met" if target.is_met(value) else "NOT met"
        lines.append([f"{kind}{title}", what, wanted, found, verdict])
    return ["", "of", "target", "measured", ""], lines


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if unit in ("s", "GETs") else f"{value:,.0f}"


def _ratio(found: Sequence[float]) -> str:
    """The median of the rounds, and between which two they lie."""
    if not found:
        return ""
    spread = f" ({min(found):.2f}-{max(found):.2f})" if len(found) > 1 else ""
    return f"{median(found):.2f}{spread}"


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


def newest() -> Path:
    """The newest results there are."""
    found = sorted(RESULTS_DIRECTORY.glob("*.json"))
    if not found:
        raise SystemExit(f"there are no results in {RESULTS_DIRECTORY} yet: make bench")
    return found[-1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report of a file."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description="Show the results of a run.")
    parser.add_argument("results", type=Path, nargs="?", help="default: the newest")
    parser.add_argument("--markdown", action="store_true", help="tables for a page")
    parser.add_argument("--page", type=Path, help="write tables and pictures into this page instead")
    chosen = parser.parse_args(arguments)
    if chosen.page:
        write_page(read_results(chosen.results or newest()), chosen.page)
        return 0
    sys.stdout.write(render(read_results(chosen.results or newest()), markdown=chosen.markdown))
    return 0


if __name__ == "__main__":
    sys.exit(main())
