"""The rows of a query, and the forms they are written in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusepkg.errors import SystemFailure, UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    import pyarrow as pa

_SHOWN = 20
"""Rows that ``print`` shows."""

FORMS = (".parquet", ".csv", ".jsonl")
"""What a file of results may end in."""


@dataclass(frozen=True, slots=True, repr=False)
class QueryResult:
    """Rows as tuples, in the query's order; ``table`` is Arrow's, in which JSON is text."""

    table: pa.Table
    json_columns: frozenset[str] = frozenset()

    @property
    def columns(self) -> list[str]:
        """Their names."""
        return list(self.table.column_names)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for batch in self.table.to_batches():
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    def dicts(self) -> Iterator[dict[str, Any]]:
        """Yield each row by the names of its columns."""
        names = self.columns
        return (dict(zip(names, row, strict=True)) for row in self)

    def to_pandas(self) -> Any:  # noqa: ANN401 - pandas is no dependency
        """Return a data frame of pandas."""
        return self.table.to_pandas()

    def json_lines(self) -> Iterator[str]:
        """Yield each row as one line of JSON; columns that hold JSON become part of it."""
        for row in self.dicts():
            for name in self.json_columns:
                row[name] = None if row[name] is None else json.loads(row[name])
            yield json.dumps({name: _plain(value) for name, value in row.items()}, ensure_ascii=False)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the rows to a file, as the end of its name says: .parquet, .csv or .jsonl.

        Raises UsageError, SystemFailure.
        """
        path = Path(path)
        if path.suffix not in FORMS:
            raise UsageError(f"{path} ends in none of {', '.join(FORMS)}", hint="Name a file that does")
        try:
            if path.suffix == ".parquet":
                import pyarrow.parquet  # here, as below: most queries write no file

                pyarrow.parquet.write_table(self.table, path)
            elif path.suffix == ".csv":
                import pyarrow.csv

                pyarrow.csv.write_csv(self.table, path)
            else:
                path.write_text("".join(f"{line}\n" for line in self.json_lines()), encoding="utf-8")
        except OSError as exc:
            raise SystemFailure(f"{path} cannot be written: {exc.strerror or exc}") from exc

    def __repr__(self) -> str:
        rows = [[shown(value) for value in row] for _, row in zip(range(_SHOWN), self, strict=False)]
        lines = ["\t".join(row) for row in [self.columns, *rows]]
        if len(self) > _SHOWN:
            lines.append(f"... and {len(self) - _SHOWN:,} more rows")
        return "\n".join(lines)


def shown(value: Any) -> str:  # noqa: ANN401 - any value of SQL
    """Return a value as people read it."""
    if value is None:
        return ""
    return json.dumps(_plain(value), ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _plain(value: Any) -> Any:  # noqa: ANN401 - as above
    """Return a value as JSON has it; times, decimals and bytes as text."""
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
