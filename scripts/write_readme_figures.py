"""Write the figures of README.md, which are those of docs/benchmarks.md.

    python scripts/write_readme_figures.py

Takes the first three rows of ``ROWS`` that the page has.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
START, END = "<!-- figures -->\n", "<!-- end of figures -->\n"
COUNT = 3

PRODUCTS = {"rclone": "rclone full", "JuiceFS": "juicefs", "quilt3": "quilt3"}
"""The columns of the README beside our own, and those of the page."""


class Row(NamedTuple):
    """A row of the page: how its title begins, how the README calls it, its unit there, and our column."""

    begins: str
    words: str
    unit: str
    ours: str


ROWS = (
    Row("first epoch, 8 readers, ", "first read of {}", "files/s", "erofs"),
    Row(
        "second epoch, shuffled, page cache dropped, 8 readers, ",
        "{} again, shuffled, from the cache",
        "files/s",
        "erofs",
    ),
    Row("open 1,000,000 entries, again", "open a package of 1,000,000 files, again in a new process", "s", "fusepkg"),
    Row("peak memory of the first opening", "the same, the first time on a machine: peak memory", "MB", "fusepkg"),
    Row("push again, unchanged", "push 10,000 files of 10 KB again, unchanged", "s", "fusepkg"),
)


def figures(page: str) -> str:
    """Return the table of the README. Raises SystemExit if the page has too few of the rows."""
    found = [line for row in ROWS if (line := _line(page, row))][:COUNT]
    if len(found) < COUNT:
        raise SystemExit(f"docs/benchmarks.md has {len(found)} of the rows that the README shows, {COUNT} are needed")
    products = [name for name in ("fusepkg", *PRODUCTS) if any(name in cells for _, cells in found)]
    lines = [f"| | {' | '.join(products)} |", f"|---|{'---:|' * len(products)}"]
    lines += [f"| {words} | {' | '.join(cells.get(name, '') for name in products)} |" for words, cells in found]
    return "\n".join(lines) + "\n"


def _line(page: str, row: Row) -> tuple[str, dict[str, str]] | None:
    """Return the words of a row and its cells by product, from the first table that has it and a peer."""
    head: list[str] = []
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            head = []
        elif not head:
            head = cells
        elif cells[0].startswith(row.begins) and "aim" not in head and "target" not in head:
            columns = dict(zip(head, cells, strict=True))
            shown = {
                "fusepkg": columns.get(row.ours),
                **{name: columns.get(theirs) for name, theirs in PRODUCTS.items()},
            }
            given = {name: f"{value} {row.unit}" for name, value in shown.items() if value}
            if len(given) > 1 and "fusepkg" in given:
                return row.words.format(cells[0].removeprefix(row.begins)), given
    return None


def updated(readme: str, page: str) -> str:
    """Return the README with the figures of the page."""
    before, start, rest = readme.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise SystemExit(f"README.md has no lines {START.strip()} and {END.strip()}")
    note = "\nOne run on one machine: [how it was measured, and every other row](docs/benchmarks.md).\n"
    return f"{before}{start}{figures(page)}{note}{end}{after}"


def main() -> None:
    """Write README.md."""
    readme = ROOT / "README.md"
    readme.write_text(updated(readme.read_text(), (ROOT / "docs" / "benchmarks.md").read_text()))


if __name__ == "__main__":
    main()
