"""Parameters in Python files, by DVC's rules: names to which a literal is assigned. Nothing is executed."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_LITERAL = (ValueError, TypeError, SyntaxError, MemoryError)
"""What ``literal_eval`` raises for anything but a literal."""


def parse_python_values(text: str) -> dict[str, Any]:
    """Return the values of a file by name; a class is a mapping of its own. What is no literal is left out.

    Raises SyntaxError, and RecursionError for text nested too deep.
    """
    return _values(ast.parse(text).body, only_own=False)


def _values(statements: list[ast.stmt], *, only_own: bool) -> dict[str, Any]:
    """Return what statements assign; ``only_own``: to attributes of ``self``, as within ``__init__``."""
    found: dict[str, Any] = {}
    for one in statements:
        if isinstance(one, ast.ClassDef):
            found[one.name] = _values(one.body, only_own=False)
        elif isinstance(one, ast.FunctionDef) and one.name == "__init__":
            found |= _values(one.body, only_own=True)
        elif isinstance(one, ast.Assign | ast.AnnAssign):
            found |= _assigned(one, only_own=only_own)
    return found


def _assigned(one: ast.Assign | ast.AnnAssign, *, only_own: bool) -> dict[str, Any]:
    targets = one.targets if isinstance(one, ast.Assign) else [one.target]
    if len(targets) != 1 or one.value is None:
        return {}
    try:
        value = _plain(ast.literal_eval(one.value))
    except _NO_LITERAL:
        return {}
    return dict.fromkeys(_names(targets[0], only_own=only_own), value)


def _names(target: ast.expr, *, only_own: bool) -> Iterator[str]:
    if isinstance(target, ast.Name):
        if not only_own:
            yield target.id
    elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self":
        yield target.attr


def _plain(value: Any) -> Any:  # noqa: ANN401 - a literal
    """Return a value as `dvc.lock` holds it: a tuple is a list there."""
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return {key: _plain(one) for key, one in value.items()} if isinstance(value, dict) else value
