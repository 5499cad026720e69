"""Files of values that stages use: YAML, JSON, TOML and Python."""

from __future__ import annotations

import json
import tomllib
from typing import Any

from fusepkg.dvc.files import parse_yaml
from fusepkg.dvc.python_values import parse_python_values
from fusepkg.errors import RepositoryUnfit


def read_values(text: bytes, name: str) -> dict[str, Any]:
    """Return what a file of parameters holds, by the end of its name. Raises RepositoryUnfit, MissingExtra."""
    try:
        if name.endswith(".json"):
            content = json.loads(text)
        elif name.endswith(".toml"):
            content = tomllib.loads(text.decode())
        elif name.endswith(".py"):
            content = parse_python_values(text.decode())
        else:
            content = parse_yaml(text, name, "safe") or {}
    except SyntaxError as exc:
        raise RepositoryUnfit(f"{name}, line {exc.lineno}: this is no Python: {exc.msg}") from exc
    except (ValueError, RecursionError, MemoryError) as exc:
        raise RepositoryUnfit(f"{name} cannot be read: {exc}") from exc
    if not isinstance(content, dict):
        raise RepositoryUnfit(f"{name} has no keys: it is no mapping")
    return content
