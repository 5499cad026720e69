"""Files of values that stages use: YAML, JSON and TOML."""

from __future__ import annotations

import json
import tomllib
from typing import Any

from fusepkg.dvc.files import parse_yaml
from fusepkg.errors import RepositoryUnfit


def read_values(text: bytes, name: str) -> dict[str, Any]:
    """Return what a file of parameters holds, by the end of its name. Raises RepositoryUnfit, MissingExtra."""
    try:
        if name.endswith(".json"):
            content = json.loads(text)
        elif name.endswith(".toml"):
            content = tomllib.loads(text.decode())
        elif name.endswith(".py"):
            raise RepositoryUnfit(
                f"{name} holds parameters in Python, which fusepkg does not read",
                hint="Put them into a YAML, JSON or TOML file, or run the pipeline with `dvc repro`",
            )
        else:
            content = parse_yaml(text, name, "safe") or {}
    except (ValueError, RecursionError) as exc:
        raise RepositoryUnfit(f"{name} cannot be read: {exc}") from exc
    if not isinstance(content, dict):
        raise RepositoryUnfit(f"{name} has no keys: it is no mapping")
    return content
