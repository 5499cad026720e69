"""The report of a run: a picture of all embeddings in two dimensions, old ones grey, new ones green; and a table.

Both are the same for the same run whenever it is made: they are part of its version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fusepkg.pool.libraries import np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from fusepkg.pool.farthest import Vectors
    from fusepkg.pool.version import LookedAt

PICTURE, TABLE = "embedding.png", "report.md"


def write_picture(path: Path, old: Vectors, new: Vectors, title: str) -> None:
    """Draw all vectors by their two main components."""
    figure = Figure(figsize=(7, 6), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    points = _two_dimensions(np.concatenate([old, new]))
    axes.scatter(points[: len(old), 0], points[: len(old), 1], s=16, c="0.65", label=f"chosen before ({len(old):,})")
    axes.scatter(points[len(old) :, 0], points[len(old) :, 1], s=16, c="#2ca02c", label=f"chosen now ({len(new):,})")
    axes.set(title=title, xlabel="first component", ylabel="second component")
    axes.legend()
    figure.savefig(path, metadata={"Software": None})


def _two_dimensions(vectors: Vectors) -> npt.NDArray[np.float64]:
    """Return the two main components (PCA)."""
    if not len(vectors):
        return np.zeros((0, 2))
    centred = vectors.astype(np.float64)
    centred -= centred.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    main = axes[:, ::-1][:, :2]
    main = main * np.where(main[np.abs(main).argmax(axis=0), np.arange(main.shape[1])] < 0, -1, 1)
    points: npt.NDArray[np.float64] = centred @ main
    return points if points.shape[1] == 2 else np.pad(points, ((0, 0), (0, 1)))


def write_table(path: Path, title: str, facts: Sequence[tuple[str, str]], objects: Sequence[LookedAt]) -> None:
    """Write what was looked at, and what came of it, as Markdown."""
    lines = [f"# {title}", "", *(f"- {name}: {value}" for name, value in facts), "", f"![embedding]({PICTURE})", ""]
    lines += ["| object | pictures or frames | chosen |", "|---|---:|---:|"]
    lines += [f"| {_cell(one.name)} | {one.pictures:,} | {one.chosen:,} |" for one in objects if not one.skipped]
    if skipped := [one for one in objects if one.skipped]:
        lines += ["", "| skipped | why |", "|---|---|"]
        lines += [f"| {_cell(one.name)} | {_cell(one.skipped)} |" for one in skipped]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
