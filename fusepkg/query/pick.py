"""Pick entries by an expression of SQL, and name them by another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusepkg.query.engine import TIMEOUT_S
from fusepkg.query.entries import NUMBERED
from fusepkg.query.run import opened_engine
from fusepkg.query.statement import check_expression, parse_select

if TYPE_CHECKING:
    from fusepkg.opened.version import OpenVersion


def pick_entries(
    version: OpenVersion, where: str, layout: str, timeout_s: float | None
) -> tuple[list[tuple[int, str | None]], bool]:
    """Return number and new name (None: as it was) of each entry picked, and whether it would be so every time.

    Raises QueryInvalid, QueryStopped, and as reading the tables of the package does.
    """
    condition = check_expression(where, "where")
    name = f"CAST({check_expression(layout, 'as')} AS VARCHAR)" if layout else "NULL"
    statement = parse_select(
        f"SELECT entry_number, {name} FROM {NUMBERED} AS entries WHERE {condition} ORDER BY entry_number"
    )
    with opened_engine(version, statement, TIMEOUT_S if timeout_s is None else timeout_s) as connection:
        return connection.sql(statement.sql).fetchall(), statement.is_stable
