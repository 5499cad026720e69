"""What is known of each picture: what was measured, and what its publisher or a table says. Thresholds, classes."""

from __future__ import annotations

import csv
import operator
from typing import TYPE_CHECKING, Any, TypeGuard

from fusepkg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from fusepkg.pool.config import Bounds

_OPERATIONS = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}


def read_table(path: Path) -> dict[str, dict[str, Any]]:
    """Read a CSV whose first column names pictures, videos or frames, and whose others are fields of them.

    Raises UsageError naming the line.
    """
    found: dict[str, dict[str, Any]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            if len(header) < 2:
                raise UsageError(f"{path}, line 1: it needs a column of names and one field at least")
            for row in rows:
                if len(row) != len(header):
                    raise UsageError(f"{path}, line {rows.line_num}: {len(row)} columns, the header has {len(header)}")
                found[row[0]] = {name: _value(text) for name, text in zip(header[1:], row[1:], strict=True) if text}
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise UsageError(f"{path} cannot be read: {getattr(exc, 'strerror', None) or exc}") from exc
    return found


def within(fields: Sequence[Mapping[str, Any]], thresholds: Mapping[str, Bounds]) -> list[int]:
    """Return the numbers of those whose fields are within all thresholds. Raises UsageError for a field none has."""
    for key in thresholds:
        if fields and not any(_is_number(one.get(key)) for one in fields):
            known = sorted({name for one in fields for name, value in one.items() if _is_number(value)})
            raise UsageError(
                f"no picture has a number {key!r}, of which there is a threshold", hint=f"There are {known}"
            )
    return [number for number, one in enumerate(fields) if _fits(one, thresholds)]


def _fits(fields: Mapping[str, Any], thresholds: Mapping[str, Bounds]) -> bool:
    for key, bounds in thresholds.items():
        value = fields.get(key)
        if not _is_number(value) or not all(_OPERATIONS[name](value, bound) for name, bound in bounds.items()):
            return False
    return True


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _value(text: str) -> str | float | int:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
