"""The entries of a package as a table of Arrow: cut out of the index's blocks, which were checked, as columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from fusepkg.errors import IndexDamaged
from fusepkg.index.entries import ALGORITHM_NAMES, RECORD_COLUMNS
from fusepkg.model.entry import EntryKind
from fusepkg.query.engine import quoted

if TYPE_CHECKING:
    import duckdb

    from fusepkg.index.entries import EntryTable

_BATCH = 1 << 16
"""Entries cut at a time."""

_STORED = "fusepkg_stored"
"""What DuckDB calls the table of Arrow; ``entries`` is a view of it, whose columns are computed as they are used."""

_WEAK_DIGITS = 16
"""Hex digits of a CRC-64; in the index 32 bytes hold it."""

NUMBERED = "fusepkg_entries"
"""``entries`` with a column more: ``entry_number``."""


def stored_entries(entries: EntryTable) -> pa.Table:
    """Return number, key, url, size, digest, algorithm, kind and meta of all entries. Raises IndexDamaged."""
    first, batches = 0, []
    for records, heap in entries.packed(_BATCH):
        batches.append(_columns(first, np.frombuffer(records, np.dtype(list(RECORD_COLUMNS))), heap))
        first += batches[-1].num_rows
    return pa.Table.from_batches(batches, _SCHEMA)


_SCHEMA = pa.schema(
    {
        "number": pa.int64(),
        "key": pa.large_string(),
        "url": pa.large_string(),
        "meta": pa.large_string(),
        "size": pa.int64(),
        "digest": pa.binary(32),
        "algorithm": pa.uint8(),
        "kind": pa.uint8(),
    }
)


def _columns(first: int, records: np.ndarray, heap: bytes) -> pa.RecordBatch:
    """Cut the heap, in which each entry's key, URL and meta follow each other, in one go."""
    count = len(records)
    lengths = np.stack([records[name].astype("i8") for name in ("key_bytes", "url_bytes", "meta_bytes")], axis=1)
    offsets = np.zeros(3 * count + 1, "i8")
    np.cumsum(lengths.reshape(-1), out=offsets[1:])
    if not np.array_equal(offsets[:-1:3] + records["heap_at"][0].astype("i8"), records["heap_at"].astype("i8")):
        raise IndexDamaged("the entries of an index do not follow each other")
    pieces = pa.LargeStringArray.from_buffers(3 * count, pa.py_buffer(offsets), pa.py_buffer(heap))
    cut = [pieces.take(_array(pa.int64(), np.arange(place, 3 * count, 3))) for place in range(3)]
    numbers = _array(pa.int64(), np.arange(first, first + count))
    size = _array(pa.int64(), records["size"])
    digests = pa.Array.from_buffers(
        pa.binary(32), count, [None, pa.py_buffer(np.ascontiguousarray(records["value"]).tobytes())]
    )
    plain = [_array(pa.uint8(), records[name]) for name in ("algorithm", "kind")]
    return pa.RecordBatch.from_arrays([numbers, *cut, size, digests, *plain], schema=_SCHEMA)


def _array(kind: pa.DataType, numbers: np.ndarray) -> pa.Array:
    """Return numbers as Arrow's. ``pa.array`` would import pandas, which takes longer than a query."""
    values = np.ascontiguousarray(numbers, kind.to_pandas_dtype())
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def register_entries(connection: duckdb.DuckDBPyConnection, entries: EntryTable) -> None:
    """Make ``entries`` a table of the engine, one row an entry, and ``NUMBERED`` the same with their numbers."""
    connection.register(_STORED, stored_entries(entries))
    weak = len(ALGORITHM_NAMES) - 1
    is_short = f"algorithm = {weak} AND ends_with(digits, repeat('0', {64 - _WEAK_DIGITS}))"
    algorithms = " ".join(f"WHEN {code} THEN {quoted(f'{name}:')}" for code, name in enumerate(ALGORITHM_NAMES))
    kinds = " ".join(f"WHEN {kind.value} THEN {quoted(kind.name.lower())}" for kind in EntryKind)
    connection.execute(f"""
        CREATE VIEW {NUMBERED} AS SELECT
          key AS logical_key,
          file AS name,
          rtrim(left(key, length(key) - length(file)), '/') AS directory,
          size,
          CASE algorithm {algorithms} END || CASE WHEN {is_short} THEN digits[:{_WEAK_DIGITS}] ELSE digits END AS hash,
          url AS physical_key,
          CASE kind {kinds} END AS kind,
          CASE WHEN stored = '{{}}' THEN '{{}}'::JSON ELSE coalesce(stored -> 'user_meta', '{{}}'::JSON) END AS meta,
          number AS entry_number
        FROM (
          SELECT *, meta AS stored, lower(hex(digest)) AS digits, split_part(key, '/', -1) AS file FROM {_STORED}
        )
    """)
    connection.execute(f"CREATE VIEW entries AS SELECT * EXCLUDE (entry_number) FROM {NUMBERED}")
