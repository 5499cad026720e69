"""Where labels lie: Parquet files in a package of their own, each the labels of some changes in a row.

A segment has one row a label: the number of its change, the document as it came, and its fields as typed columns, so
that a search reads only those it names. ``deleted.parquet`` has a row for each label that was taken out: its
fingerprint, and the change. A label counts if no later change took it out. Small segments are merged into larger ones,
each at least four times its successor, so that a change of a thousand labels among a million uploads a few thousand.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fusepkg.errors import LabelsUnfit, UnsupportedFormat
from fusepkg.query.engine import connect, quoted, quoted_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import duckdb

    from fusepkg.labels.documents import Label

FORMAT = 1

DELETED = "deleted.parquet"

CHANGE, DOCUMENT = "fusepkg_change", "document"
"""Columns of ours: the number of the change, the label as JSON."""

MERGE_FACTOR = 4
"""A segment is at least this many times as large as the next; else they become one. Each label is written again some
log4(labels / labels of a change) times."""

DELETED_SHARE = 4
"""All is written anew once more than one in so many labels is a deleted one."""

_NAME = re.compile(r"labels/(\d{8})-(\d{8})\.parquet")

_COLUMNS = 1000
"""Fields that become columns, at most; what lies beyond is found in ``document``."""

_EMPTY_SEGMENT = "SELECT 0::BIGINT AS {change}, '' AS label_fingerprint, '' AS img_id, '{{}}' AS {document} LIMIT 0"


@dataclass(frozen=True, slots=True)
class Segment:
    """The labels of the changes ``first`` to ``last``: a file of the package, and how many rows it has."""

    first: int
    last: int
    rows: int

    @property
    def logical_key(self) -> str:
        """Its name in the package."""
        return f"labels/{self.first:08}-{self.last:08}.parquet"


def parse_segment(logical_key: str, meta: dict[str, Any]) -> Segment | None:
    """Return what an entry of the package is; None if it is no segment. Raises UnsupportedFormat."""
    found = _NAME.fullmatch(logical_key)
    if found is None:
        return None
    rows = meta.get("rows")
    if not isinstance(rows, int) or rows < 0:
        raise UnsupportedFormat(f"{logical_key} does not say how many labels it holds")
    return Segment(int(found[1]), int(found[2]), rows)


def to_merge(segments: Sequence[Segment], new_rows: int) -> int:
    """Return how many of the last segments become one with ``new_rows`` new labels."""
    count, rows = 0, new_rows
    for segment in reversed(segments):
        if segment.rows >= MERGE_FACTOR * rows:
            break
        count, rows = count + 1, rows + segment.rows
    return count


# --- reading ---


def read_live(
    connection: duckdb.DuckDBPyConnection, root: str, segments: Sequence[Segment], *, has_deleted: bool
) -> None:
    """Make the view ``labels`` of those that count, out of the files below ``root``, and ``stored``, with changes."""
    change, document = quoted_name(CHANGE), quoted_name(DOCUMENT)
    if segments:
        files = ", ".join(quoted(f"{root}/{segment.logical_key}") for segment in segments)
        stored = f"SELECT * FROM read_parquet([{files}], union_by_name = true)"
    else:
        stored = _EMPTY_SEGMENT.format(change=change, document=document)
    if has_deleted:
        deleted = f"read_parquet({quoted(f'{root}/{DELETED}')})"
        stored = f"""
            SELECT s.* FROM ({stored}) s
            LEFT JOIN (SELECT label_fingerprint, max({change}) AS gone FROM {deleted} GROUP BY 1) d
            ON s.label_fingerprint = d.label_fingerprint
            WHERE d.gone IS NULL OR s.{change} >= d.gone"""
    connection.execute(f"CREATE VIEW stored AS {stored}")
    connection.execute(f"CREATE VIEW labels AS SELECT * EXCLUDE ({change}) FROM stored")


# --- writing ---


def register_labels(connection: duckdb.DuckDBPyConnection, labels: Iterable[Label], change: int) -> None:
    """Make the table ``new_labels`` of a change's labels, as rows of a segment without typed columns."""
    labels = list(labels)
    connection.register(
        "new_labels",
        pa.table(
            {
                CHANGE: pa.array([change] * len(labels), pa.int64()),
                DOCUMENT: pa.array([label.text for label in labels], pa.string()),
                "label_fingerprint": pa.array([label.fingerprint for label in labels], pa.string()),
                "img_id": pa.array([label.img_id for label in labels], pa.string()),
                "file_name": pa.array([label.file_name for label in labels], pa.string()),
            }
        ),
    )


def write_segment(rows: pa.Table, path: Path) -> None:
    """Write change and document of rows as a segment, with a typed column for each field of the documents."""
    with connect() as own:
        own.register("rows", rows)
        select = f"SELECT {CHANGE}, {DOCUMENT}, {_typed_fields(own)} FROM rows ORDER BY {CHANGE}"
        own.execute(f"COPY ({select}) TO {quoted(str(path))} (FORMAT parquet, COMPRESSION zstd)")


def _typed_fields(own: duckdb.DuckDBPyConnection) -> str:
    """Return the expression that makes columns of the fields of the documents in ``rows``."""
    # One document of each shape stands for all: the structure of a million at once would take gigabytes.
    shapes = f"SELECT any_value({DOCUMENT}) AS one FROM rows GROUP BY json_structure({DOCUMENT}::JSON)"
    found = own.execute(f"SELECT json_group_structure(one::JSON) FROM ({shapes})").fetchone()
    structure = _clean(json.loads(found[0])) if found and found[0] else {}
    structure = {"label_fingerprint": "VARCHAR", "img_id": "VARCHAR", **structure}
    structure = dict(list(structure.items())[:_COLUMNS])
    return f"unnest(from_json({DOCUMENT}::JSON, {quoted(json.dumps(structure))}))"


def write_deleted(rows: pa.Table, path: Path) -> None:
    """Write fingerprints and changes of deleted labels."""
    with connect() as own:
        own.register("rows", rows)
        own.execute(f"COPY (FROM rows) TO {quoted(str(path))} (FORMAT parquet, COMPRESSION zstd)")


def _clean(structure: Any) -> Any:  # noqa: ANN401 - JSON
    """Leave out fields that only hold null, and of names that differ in case only all but the first."""
    if isinstance(structure, list):
        return [_clean(one) for one in structure] if _clean(structure[0]) not in (None, {}) else ["JSON"]
    if not isinstance(structure, dict):
        return None if structure == "NULL" else structure
    kept: dict[str, Any] = {}
    seen = {CHANGE, DOCUMENT}
    for name, inner in structure.items():
        cleaned = _clean(inner)
        if cleaned in (None, {}) or not name or name.lower() in seen:
            continue
        seen.add(name.lower())
        kept[name] = cleaned
    return kept


def refuse_other_kinds(connection: duckdb.DuckDBPyConnection, rows: pa.Table) -> None:
    """Raise LabelsUnfit where a field is an object in one of the new rows and ``labels``, and none in the other."""
    with connect() as own:
        own.register("rows", rows)
        new = own.sql(f"SELECT {_typed_fields(own)} FROM rows LIMIT 0")
        theirs = dict(zip(new.columns, new.types, strict=True))
    there = connection.sql("SELECT * FROM labels")
    for name, kind in zip(there.columns, there.types, strict=True):
        if name in theirs:
            _compare_kinds(name, kind, theirs[name])


def _compare_kinds(name: str, there: Any, new: Any) -> None:  # noqa: ANN401 - DuckDB's types
    kinds = {_kind(there), _kind(new)}
    if len(kinds) > 1 and "NULL" not in kinds:
        words = {"struct": "objects", "list": "lists", "other": "plain values"}
        raise LabelsUnfit(
            f"the field {name} holds {words[_kind(new)]}; in the labels there are, it holds {words[_kind(there)]}",
            hint="Give the field of the new labels another name",
        )
    if kinds == {"struct"}:
        fields = dict(new.children)
        for inner, kind in there.children:
            if inner in fields:
                _compare_kinds(f"{name}.{inner}", kind, fields[inner])


def _kind(kind: Any) -> str:  # noqa: ANN401 - DuckDB's types
    return kind.id if kind.id in ("struct", "list") else "other"
