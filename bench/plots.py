"""Pictures of a run for docs/benchmarks.md: cold epochs by distance, and later epochs."""

from __future__ import annotations

from statistics import median
from textwrap import fill
from typing import TYPE_CHECKING

from bench.targets import values_by_round

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from bench.results import Results

COLOURS = {
    "erofs": "#0b6e4f", "fuse": "#5aa469", "erofs plain": "#9fc5b3", "local": "#777777", "obstore": "#444444",
    "rclone full": "#c1666b", "juicefs": "#4281a4", "s3fs": "#d4a017",
}  # fmt: skip
SUBJECTS = tuple(COLOURS)
DPI = 110
TITLE_LETTERS = 38
"""Of one line of a title above a third of a picture."""


def write_plots(results: Results, directory: Path) -> list[Path]:
    """Write the pictures for which there are samples; their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    drawn = [_cold_by_distance(results, directory / "cold.png"), _bars(results, directory / "warm.png")]
    return [path for path in drawn if path is not None]


def _pyplot() -> ModuleType:
    """Only the group ``bench`` has it; a run without these rows does without."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _value(results: Results, row: str, subject: str) -> float | None:
    rounds = values_by_round(results, row, subject)
    return median(value for values in rounds.values() for value in values) if rounds else None


def _cold_by_distance(results: Results, path: Path) -> Path | None:
    keys = [row.key for row in results.rows if row.key.startswith("cold.list.")]
    if not keys:
        return None
    keys.sort(key=lambda key: int(key.rpartition(".")[2]))
    delays = [int(key.rpartition(".")[2]) for key in keys]
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(7, 4), dpi=DPI, layout="constrained")
    for subject in SUBJECTS:
        points = [
            (delay, value) for delay, key in zip(delays, keys, strict=True) if (value := _value(results, key, subject))
        ]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", label=subject, color=COLOURS[subject])
    axes.set(xlabel="delay of each request, ms", ylabel="files of 10 KB a second", title="First epoch, 8 readers")
    axes.set_xticks(delays)
    axes.set_ylim(bottom=0)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path)
    pyplot.close(figure)
    return path


def _bars(results: Results, path: Path) -> Path | None:
    rows = [row for row in results.rows if row.key.startswith("warm.")]
    if not rows:
        return None
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(1, len(rows), figsize=(3.4 * len(rows), 3.6), dpi=DPI, layout="constrained")
    for row, one in zip(rows, axes if len(rows) > 1 else [axes], strict=True):
        found = {subject: value for subject in SUBJECTS if (value := _value(results, row.key, subject))}
        one.barh(list(found)[::-1], list(found.values())[::-1], color=[COLOURS[name] for name in list(found)[::-1]])
        one.set_title(fill(row.title, TITLE_LETTERS), fontsize=9)
        one.set_xlabel("files a second")
    figure.savefig(path)
    pyplot.close(figure)
    return path
