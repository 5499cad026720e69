"""What a query is, before it is run: one SELECT, which tables it names, whether it says the same each time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import duckdb

from fusepkg.errors import QueryInvalid
from fusepkg.query.engine import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

_ONLY = "A query is one SELECT (or WITH ... SELECT); it reads and changes nothing"

_PLACES = frozenset({"query_location", "query_location_length"})
"""What in a parsed statement only says where it was written."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A SELECT. ``tables`` are the names after FROM; ``form`` is equal for statements that differ in spaces only.

    ``is_stable`` is False where a function gives another result each time, or rows are drawn at random.
    """

    sql: str
    tables: frozenset[str]
    form: str
    is_stable: bool


def parse_select(sql: str) -> Statement:
    """Read a query. Raises QueryInvalid, naming what it is instead."""
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as exc:
        raise QueryInvalid(f"the query cannot be read: {' '.join(str(exc).split())}", hint=_ONLY) from exc
    kinds = [statement.type.name for statement in statements]
    if kinds != ["SELECT"]:
        named = ", ".join(kinds) or "empty"
        raise QueryInvalid(f"the query is {named}", hint=_ONLY)
    with connect() as connection:
        try:
            row = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
            parsed = json.loads(row[0]) if row else {}
        except (duckdb.Error, RecursionError) as exc:
            raise QueryInvalid(f"the query cannot be read: {exc}", hint=_ONLY) from exc
    if parsed.get("error", True):
        raise QueryInvalid(f"the query cannot be read: {parsed.get('error_message', '')}", hint=_ONLY)
    nodes = list(_nodes(parsed))
    functions = {str(node["function_name"]) for node in nodes if "function_name" in node}
    is_stable = not functions & (_volatile_functions() | _OF_THE_CLOCK) and not any(
        node.get("sample") for node in nodes
    )
    tables = frozenset(str(node["table_name"]) for node in nodes if node.get("type") == "BASE_TABLE")
    return Statement(sql, tables, json.dumps(_without_places(parsed), sort_keys=True), is_stable)


@cache
def _volatile_functions() -> frozenset[str]:
    """Return the functions of the engine that may give another result at each call."""
    with connect() as connection:
        names = connection.execute("SELECT function_name FROM duckdb_functions() WHERE stability = 'VOLATILE'")
        return frozenset(str(name) for (name,) in names.fetchall())


_OF_THE_CLOCK = frozenset(
    {
        "now", "today", "current_date", "current_time", "current_timestamp", "current_localtime", "age",
        "current_localtimestamp", "get_current_time", "get_current_timestamp", "transaction_timestamp", "txid_current",
    }
)  # fmt: skip
"""Functions that DuckDB calls consistent, but only within one query."""


def check_expression(text: str, what: str) -> str:
    """Return an expression as it is run. Raises QueryInvalid where the text is not one expression."""
    try:
        duckdb.SQLExpression(text)
    except duckdb.Error as exc:
        raise QueryInvalid(f"{what} {text!r} is not one expression of SQL: {' '.join(str(exc).split())}") from exc
    return f"({text}\n)"  # a comment at its end goes no further


def _nodes(value: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - JSON
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def _without_places(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return {name: _without_places(one) for name, one in value.items() if name not in _PLACES}
    return [_without_places(one) for one in value] if isinstance(value, list) else value
