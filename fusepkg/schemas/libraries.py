"""The libraries of checks, asked for in one place."""

from __future__ import annotations

from fusepkg.errors import MissingExtra

try:
    import jsonschema
    import re2
    import yaml
    from jsonschema import exceptions, validators
except ImportError as exc:
    raise MissingExtra(
        f"checks need PyYAML, jsonschema and google-re2 ({exc.name} is missing)", hint='pip install "fusepkg[check]"'
    ) from exc

__all__ = ["exceptions", "jsonschema", "re2", "validators", "yaml"]
