"""Columns of Parquet and CSV files: from the footer of the one, from the first lines of the other."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fusepkg.errors import FusepkgError, MissingExtra
from fusepkg.fit.reading import HEAD_BYTES

try:
    import pyarrow as pa
    from pyarrow import parquet
except ImportError as exc:
    raise MissingExtra("looking into tables needs PyArrow", hint='pip install "fusepkg[check]"') from exc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from fusepkg.api.entry import PackageEntry
    from fusepkg.fit.reading import Reading

SUFFIXES = (".parquet", ".csv", ".tsv")
"""Files that are tables."""

_WORDS: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (pa.types.is_boolean, "boolean"),
    (pa.types.is_integer, "integer"),
    (pa.types.is_floating, "number"),
    (pa.types.is_decimal, "number"),
    (pa.types.is_string, "string"),
    (pa.types.is_large_string, "string"),
    (pa.types.is_binary, "binary"),
    (pa.types.is_large_binary, "binary"),
    (pa.types.is_fixed_size_binary, "binary"),
    (pa.types.is_date, "date"),
    (pa.types.is_timestamp, "timestamp"),
    (pa.types.is_list, "list"),
    (pa.types.is_large_list, "list"),
    (pa.types.is_fixed_size_list, "list"),
    (pa.types.is_struct, "struct"),
)

_TEXTS = {
    "boolean": re.compile(r"(?:true|false|0|1)", re.IGNORECASE),
    "integer": re.compile(r"[+-]?\d{1,30}"),
    "number": re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:nan|inf)", re.IGNORECASE),
    "date": re.compile(r"\d{4}-\d\d-\d\d"),
    "timestamp": re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?"),
}
"""How values of a type are written in CSV."""


class NoTable(Exception):
    """The file is no table; the message says why."""


@dataclass(frozen=True, slots=True)
class Columns:
    """``types`` has, by column, the words that fit: of Parquet the general and its own, of CSV all that its values
    allow. ``rows`` is None where only the first lines were looked at."""

    types: dict[str, tuple[str, ...]]
    rows: int | None


def look_at_table(entry: PackageEntry, reading: Reading, *, count_rows: bool) -> Columns:
    """Return the columns of a table. Raises NoTable, RemoteError, IntegrityError."""
    if entry.logical_key.lower().endswith(".parquet"):
        return _parquet(entry, reading)
    return _csv(entry, reading, count_rows=count_rows)


def read_column(entry: PackageEntry, column: str, reading: Reading) -> list[str]:
    """Return one column as text: of Parquet it alone is read, CSV as a whole. Raises NoTable, and as reading does."""
    if not entry.logical_key.lower().endswith(".parquet"):
        text = _text(reading.whole(entry))
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=_delimiter(entry))
        if column not in (rows.fieldnames or ()):
            raise NoTable(f"has no column {column!r}")
        return [row[column] or "" for row in rows]
    with _as_no_table(), reading.open(entry) as file:
        table = parquet.ParquetFile(file)
        if column not in table.schema_arrow.names:
            raise NoTable(f"has no column {column!r}")
        return ["" if value is None else str(value) for value in table.read([column])[column].to_pylist()]


def wrong_columns(found: Columns, wanted: Mapping[str, str], *, others: bool) -> Iterator[tuple[str, str]]:
    """Yield columns that are not as they should be, each with what is wrong; "" is the table."""
    for name, kind in wanted.items():
        if name not in found.types:
            yield name, f"has no column {name!r}"
        elif kind != "any" and kind not in found.types[name]:
            yield name, f"column {name!r} is {found.types[name][0]}, not {kind}"
    unknown = [name for name in found.types if name not in wanted]
    if unknown and not others:
        yield "", f"has other columns: {', '.join(map(repr, unknown[:10]))}"


def _parquet(entry: PackageEntry, reading: Reading) -> Columns:
    with _as_no_table(), reading.open(entry) as file:
        table = parquet.ParquetFile(file)
        schema = table.schema_arrow
        return Columns({field.name: _words(field.type) for field in schema}, table.metadata.num_rows)


def _words(kind: Any) -> tuple[str, ...]:  # noqa: ANN401 - PyArrow has no types
    if pa.types.is_dictionary(kind):
        return (*_words(kind.value_type), str(kind))
    found = tuple(word for fits, word in _WORDS if fits(kind))
    return (*found, *(("number",) if "integer" in found else ()), str(kind))


class _as_no_table:  # noqa: N801 - a context manager
    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _where: object) -> None:
        if isinstance(error, FusepkgError | NoTable) or error is None:
            return
        if isinstance(error, pa.ArrowException | OSError | ValueError):
            raise NoTable(f"is no Parquet file: {str(error).splitlines()[0][:120]}") from error


def _csv(entry: PackageEntry, reading: Reading, *, count_rows: bool) -> Columns:
    if count_rows or entry.size <= HEAD_BYTES:
        text, is_whole = _text(reading.whole(entry)), True
    else:
        with reading.open(entry) as file:
            head = file.read(HEAD_BYTES)
        text, is_whole = _text(head[: head.rfind(b"\n") + 1]), False
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(entry), strict=True))
    except csv.Error as exc:
        raise NoTable(f"is no CSV file: {exc}") from exc
    rows = [row for row in rows if row]
    if not rows:
        raise NoTable("is empty: a CSV file begins with the names of its columns")
    names, values = rows[0], rows[1:]
    if len(set(names)) < len(names):
        raise NoTable("has two columns of one name")
    for row in values:
        if len(row) != len(names):
            raise NoTable(f"has {len(names)} columns, and a row of {len(row)}: {','.join(row)[:60]!r}")
    types = {name: _fitting([row[at] for row in values]) for at, name in enumerate(names)}
    return Columns(types, len(values) if is_whole else None)


def _fitting(values: Iterable[str]) -> tuple[str, ...]:
    """Return the types that all values of a column may be of, narrow ones first; empty ones may be of any."""
    said = [value for value in values if value]
    if not said:
        return ("string", *_TEXTS)
    found = [word for word, pattern in _TEXTS.items() if all(pattern.fullmatch(value) for value in said)]
    if "integer" in found and "boolean" in found:  # 0 and 1 are numbers before they are truths
        found = ["integer", "number", "boolean"]
    return (*found, "string")


def _delimiter(entry: PackageEntry) -> str:
    return "\t" if entry.logical_key.lower().endswith(".tsv") else ","


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise NoTable(f"is not UTF-8: {exc.reason} at byte {exc.start:,}") from exc
