"""Draw the figures of the guides to labels, datapools and datasets, below docs/figures.

    python -m bench.labels 1000000 docs/figures/labels.json     what labels.png shows
    make figures

Needs the extra ``pool``. The datapool is that of its guide: three videos, then two more.
"""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fusepkg.opened.contexts import configure
from fusepkg.pool import Pool, Selection

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIGURES = Path(__file__).parents[1] / "docs" / "figures"

FIRST = ("campus4-c0.avi", "passageway1-c1.avi", "terrace1-c0.avi")
LATER = ("campus7-c0.avi", "terrace1-c3.avi")

STATES = {
    "SUBMITTED": (0.0, 0.5),
    "RUNNING": (1.0, 0.5),
    "DONE": (2.0, 1.0),
    "ERROR": (2.0, 0.5),
    "CANCELLED": (2.0, 0.0),
}
STEPS = (
    ("SUBMITTED", "RUNNING", "a worker claims it"),
    ("RUNNING", "DONE", "done"),
    ("RUNNING", "ERROR", "failed"),
    ("RUNNING", "CANCELLED", "cancelled"),
)

GREEN, GREY = "#2ca02c", "0.65"


def main() -> None:
    """Draw all of them."""
    FIGURES.mkdir(exist_ok=True)
    _draw_labels(json.loads((FIGURES / "labels.json").read_text(encoding="utf-8")))
    _draw_states()
    with tempfile.TemporaryDirectory() as scratch:
        _draw_datapool(Path(scratch))


def _new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _save(figure: Figure, name: str) -> None:
    figure.savefig(FIGURES / name, metadata={"Software": None})


def _draw_labels(measured: dict[str, list[float]]) -> None:
    rows = {
        "DuckDB alone, JSON Lines": "plain_s",
        "search after the change": "after_s",
        "1,000 new labels": "change_s",
        "the same search again": "again_s",
        "search by two fields": "first_s",
    }
    figure, axes = _new_axes(7, 2.6)
    seconds = [measured[key][1] for key in rows.values()]
    bars = axes.barh(list(rows), seconds, color=[GREY, *[GREEN] * (len(rows) - 1)])
    axes.bar_label(bars, [f"{one:.2f}" for one in seconds], padding=3)
    axes.set(xlabel=f"seconds of CPU, {measured['labels']:,} labels", xlim=(0, max(seconds) * 1.15))
    _save(figure, "labels.png")


def _draw_states() -> None:
    figure, axes = _new_axes(7, 2.6)
    box = {"boxstyle": "round", "facecolor": "white", "edgecolor": GREEN}
    for name, place in STATES.items():
        axes.text(*place, name, ha="center", va="center", bbox=box)
    for start, end, words in STEPS:
        (x0, y0), (x1, y1) = STATES[start], STATES[end]
        axes.annotate("", (x1 - 0.27, y1), (x0 + 0.27, y0), arrowprops={"arrowstyle": "->"})
        axes.text((x0 + x1) / 2, (y0 + y1) / 2 + 0.06, words, ha="center", fontsize=8)
    curve = {"arrowstyle": "->", "connectionstyle": "arc3,rad=-0.5"}
    axes.annotate("", (0.0, 0.38), (1.0, 0.38), arrowprops=curve)
    words = "its worker gives it back; one that is silent for its lease is replaced by the next"
    axes.text(0.5, -0.1, words, ha="center", fontsize=8)
    axes.set(xlim=(-0.4, 2.4), ylim=(-0.15, 1.15))
    axes.axis("off")
    _save(figure, "task.png")


def _draw_datapool(scratch: Path) -> None:
    os.environ["FUSEPKG_DATA_DIR"] = f"{scratch}/data"
    configure(cache_dir=scratch / "cache")
    videos = scratch / "videos"
    videos.mkdir()
    pool = Pool(f"{videos}/", "local/street", selection=Selection(min_distance=0.2))
    for names in (FIRST, LATER):
        for name in names:
            _make_video(videos / name)
        run = pool.run()
    (FIGURES / "datapool.png").write_bytes(run.package.get("datapool/embedding.png"))


def _make_video(path: Path) -> None:
    """Make a video as that of the guide does: one colour grows over another."""
    colours = np.random.default_rng(zlib.crc32(path.name.encode())).integers(0, 256, (2, 3))
    with av.open(path, "w") as video:
        stream = video.add_stream("mpeg4", rate=8, options={"threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(24):
            picture = np.full((48, 64, 3), colours[0], np.uint8)
            picture[:, : 2 + number * 2] = colours[1]
            video.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        video.mux(stream.encode())


if __name__ == "__main__":
    main()
