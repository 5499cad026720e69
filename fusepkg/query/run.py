"""Run a query over one version of a package."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from fusepkg.fsspec.filesystem import file_system_for
from fusepkg.query.engine import TIMEOUT_S, connect, deadline, lock
from fusepkg.query.entries import NUMBERED, register_entries
from fusepkg.query.result import QueryResult
from fusepkg.query.statement import parse_select
from fusepkg.query.tables import register_tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb

    from fusepkg.opened.version import OpenVersion
    from fusepkg.query.statement import Statement


def run_query(version: OpenVersion, sql: str, timeout_s: float | None = None) -> QueryResult:
    """Run one SELECT over ``entries`` and the tables in the package, and return all its rows.

    Raises QueryInvalid, QueryStopped, RemoteError, IntegrityError, CacheFailure.
    """
    statement = parse_select(sql)
    with opened_engine(version, statement, TIMEOUT_S if timeout_s is None else timeout_s) as connection:
        rows = connection.sql(statement.sql)
        json_columns = [name for name, kind in zip(rows.columns, rows.types, strict=True) if str(kind) == "JSON"]
        return QueryResult(rows.to_arrow_table(), frozenset(json_columns))


@contextmanager
def opened_engine(version: OpenVersion, statement: Statement, timeout_s: float) -> Iterator[duckdb.DuckDBPyConnection]:
    """An engine, locked down, that has the tables a statement names. The deadline is that of the block."""
    files, root = file_system_for(version)
    with connect() as connection, deadline(connection, timeout_s, files):
        lock(connection, files, root)
        if {"entries", NUMBERED} & {table.lower() for table in statement.tables}:
            register_entries(connection, version.index.entries)
        register_tables(connection, version, statement.tables, files, root)
        yield connection
