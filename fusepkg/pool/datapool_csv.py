"""``datapool_latest.csv``: the names of all pictures that were chosen, in that order, and their embeddings.

The columns are those that self-supervised learning tools write and read: ``filenames``, ``embedding_0`` and so on, and
``labels``, which is 0 here and need not be there.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from fusepkg.errors import UnsupportedFormat
from fusepkg.pool.libraries import np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fusepkg.pool.farthest import Vectors

NAME = "datapool_latest.csv"


def write_datapool(path: Path, names: Sequence[str], vectors: Vectors) -> None:
    """Write the file; each number as short as it can be and still be the same."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["filenames", *(f"embedding_{number}" for number in range(vectors.shape[1])), "labels"])
        for name, vector in zip(names, vectors, strict=True):
            writer.writerow([name, *(f"{number:.9g}" for number in vector.tolist()), 0])


def read_datapool(data: bytes, where: str) -> tuple[list[str], Vectors]:
    """Return names and embeddings. Raises UnsupportedFormat naming the line."""
    rows = csv.reader(io.StringIO(data.decode("utf-8", "replace"), newline=""))
    header = next(rows, [])
    count = sum(1 for column in header if column.startswith("embedding_"))
    if header[: count + 1] != ["filenames", *(f"embedding_{number}" for number in range(count))] or not count:
        raise UnsupportedFormat(f"{where}, line 1: the columns are not filenames, embedding_0, embedding_1, ...")
    names: list[str] = []
    vectors: list[Vectors] = []
    for row in rows:
        try:
            vectors.append(np.array(row[1 : count + 1], np.float64).astype(np.float32))
        except ValueError as exc:
            raise UnsupportedFormat(f"{where}, line {rows.line_num}: {exc}") from exc
        if len(row) != len(header) or not np.isfinite(vectors[-1]).all():
            raise UnsupportedFormat(f"{where}, line {rows.line_num}: it needs a name and {count} finite numbers")
        names.append(row[0])
    return names, np.stack(vectors) if vectors else np.zeros((0, count), np.float32)
