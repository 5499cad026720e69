"""What a search is: a condition in SQL, or a small JSON form that becomes one."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fusepkg.errors import ManifestInvalid, QueryInvalid
from fusepkg.labels.segments import CHANGE, DOCUMENT
from fusepkg.model.logical_key import check_logical_key
from fusepkg.query.engine import TIMEOUT_S, quoted, quoted_name
from fusepkg.query.statement import check_expression

if TYPE_CHECKING:
    from collections.abc import Mapping

    import duckdb

    from fusepkg.labels.package import LabelPackage

_FORM = 'For example {"event": "iron car", "label.label_speed": {"gte": 1, "lt": 3}, "label.label_direction": [1, 2]}'

_COMPARISONS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "ne": "IS DISTINCT FROM", "like": "LIKE"}


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found: ``documents``, one a picture, by ``img_id``; the newest label of it that fits.

    ``several`` are the ``img_id`` of pictures with more than one label that fits; ``labels`` counts all of these.
    ``names`` are the new names of pictures by their logical keys, where an expression gave them some.
    """

    documents: dict[str, dict[str, Any]]
    labels: int
    several: tuple[str, ...]
    names: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.documents)

    def file_names(self) -> list[str]:
        """Return the logical keys of the pictures, each once, sorted."""
        names = {document.get("file_name") for document in self.documents.values()}
        return sorted(name for name in names if name is not None)


def search(
    opened: LabelPackage, where: str | dict[str, Any] | None, timeout_s: float = TIMEOUT_S, layout: str = ""
) -> SearchResult:
    """Return the labels that fit a condition; all without one. Raises QueryInvalid, QueryStopped, RemoteError.

    ``layout`` is an expression that gives each picture a new name; it may use ``name``, the last part of the old one.
    """
    condition = condition_of(where)
    new_name = f"CAST({check_expression(layout, 'as')} AS VARCHAR)" if layout.strip() else "NULL"
    try:
        with opened.engine(timeout_s) as connection:
            rows = connection.execute(
                f"SELECT img_id, {DOCUMENT}, {new_name} FROM {_with_name(connection)} WHERE {condition}"
                f" ORDER BY {CHANGE}, label_fingerprint"
            ).fetchall()
    except QueryInvalid as exc:
        raise QueryInvalid(exc.message, hint="Fields are those of the labels: label.label_speed, event, ...") from exc
    newest = {img_id: (document, name) for img_id, document, name in rows}
    documents = {img_id: json.loads(newest[img_id][0]) for img_id in sorted(newest)}
    several = [img_id for img_id, count in Counter(img_id for img_id, _, _ in rows).items() if count > 1]
    names = _new_names(documents, {img_id: name for img_id, (_, name) in newest.items()}) if layout.strip() else {}
    return SearchResult(documents, len(rows), tuple(sorted(several)), names)


def _with_name(connection: duckdb.DuckDBPyConnection) -> str:
    """Return the labels as a table that has a column ``name`` too, unless that is a field of theirs."""
    columns = {column.lower() for column in connection.sql("SELECT * FROM stored LIMIT 0").columns}
    if "file_name" not in columns or "name" in columns:
        return "stored"
    return "(SELECT *, split_part(file_name, '/', -1) AS name FROM stored)"


def _new_names(documents: dict[str, dict[str, Any]], given: dict[str, str | None]) -> dict[str, str]:
    """Return new names by logical keys. Raises QueryInvalid for what can be none, and for one given twice."""
    found: dict[str, str] = {}
    owners: dict[str, str] = {}
    for img_id, document in documents.items():
        old, new = document.get("file_name"), given[img_id]
        if old is None:
            continue
        try:
            check_logical_key(new or "")
        except ManifestInvalid as exc:
            raise QueryInvalid(f"the new name of {old!r} is {new!r}: {exc.message}") from exc
        found[old] = new or ""
        if owners.setdefault(found[old], old) != old:
            raise QueryInvalid(
                f"new names are not unique: {owners[found[old]]!r} and {old!r} are both {new!r}",
                hint="Make the old name part of the new one",
            )
    return found


def condition_of(where: str | dict[str, Any] | None) -> str:
    """Return a condition as SQL. Raises QueryInvalid."""
    if where is None:
        return "true"
    if isinstance(where, dict):
        return " AND ".join(_test(name, value) for name, value in where.items()) or "true"
    return check_expression(where, "the condition")


def _test(name: str, value: Any) -> str:  # noqa: ANN401 - JSON
    if not name or not all(name.split(".")):
        raise QueryInvalid(f"{name!r} is no name of a field", hint=_FORM)
    field = ".".join(quoted_name(part) for part in name.split("."))
    if isinstance(value, list):
        if not value:
            raise QueryInvalid(f"{name}: an empty list fits nothing", hint=_FORM)
        return f"{field} IN ({', '.join(_literal(name, one) for one in value)})"
    if isinstance(value, dict):
        tests = [_comparison(name, field, how, operand) for how, operand in value.items()]
        if not tests:
            raise QueryInvalid(f"{name}: an empty object says nothing", hint=_FORM)
        return " AND ".join(tests)
    return f"{field} IS NULL" if value is None else f"{field} = {_literal(name, value)}"


def _comparison(name: str, field: str, how: str, operand: Any) -> str:  # noqa: ANN401 - JSON
    if how == "exists" and isinstance(operand, bool):
        return f"{field} IS {'NOT ' if operand else ''}NULL"
    if how == "contains":
        return f"list_contains({field}, {_literal(name, operand)})"
    if how not in _COMPARISONS:
        raise QueryInvalid(
            f"{name}: {how!r} is no comparison", hint=f"Use {', '.join(_COMPARISONS)}, contains or exists. {_FORM}"
        )
    return f"{field} {_COMPARISONS[how]} {_literal(name, operand)}"


def _literal(name: str, value: Any) -> str:  # noqa: ANN401 - JSON
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return quoted(value)
    raise QueryInvalid(f"{name}: {json.dumps(value)[:60]} is no value to compare with", hint=_FORM)
