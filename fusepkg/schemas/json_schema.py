"""JSON Schema without its traps: patterns are RE2's, and nothing is fetched from anywhere."""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from referencing import Registry
from referencing.exceptions import Unresolvable

from fusepkg.errors import SpecInvalid
from fusepkg.schemas.libraries import exceptions, jsonschema, validators
from fusepkg.schemas.patterns import compile_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_VALUES = frozenset({"enum", "const", "default", "examples"})
"""Keywords below which anything may stand."""

_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
"""Keywords whose keys are names of the user's."""


def compile_schema(schema: object, name: str, *, draft: Any = None) -> Callable[[Any], list[str]]:  # noqa: ANN401 - untyped
    """Return what tells the mistakes of a value, the first few of them, each with its place.

    ``draft`` is a class of validators, by default the one that ``$schema`` names, else the newest. Raises SpecInvalid.
    """
    if not isinstance(schema, dict | bool):
        raise SpecInvalid(f"{name} is not a JSON Schema: neither an object nor true or false")
    base = draft or validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    _check_patterns(schema, name)
    try:
        base.check_schema(schema)
    except exceptions.SchemaError as exc:
        raise SpecInvalid(f"{name} is not a JSON Schema: {exc.json_path}: {_short(exc.message)}") from exc
    validator = _bounded(base)(schema, registry=Registry())
    return partial(_mistakes, validator, name)


def _mistakes(validator: Any, name: str, value: Any, most: int = 5) -> list[str]:  # noqa: ANN401 - untyped
    try:
        found = islice(validator.iter_errors(value), most)
        return [f"{error.json_path}: {_short(error.message)}" for error in found]
    except RecursionError:
        return ["$: nested too deep"]
    except Unresolvable as exc:
        raise SpecInvalid(f"{name} refers to {exc.ref!r}, which is not in it", hint="Write the schema out") from exc


def _short(message: str) -> str:
    return message if len(message) <= 200 else f"{message[:120]} ... {message[-70:]}"


def _check_patterns(schema: object, name: str) -> None:
    """Compile all patterns, so that a bad one is refused before any work."""
    keywords: set[str] = set()
    waiting = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        if not isinstance(one, dict):
            continue
        keywords |= one.keys()
        patterns = [one.get("pattern"), *(one.get("patternProperties") or ())]
        for pattern in patterns:
            if isinstance(pattern, str):
                _compiled(pattern, name)
        for keyword, value in one.items():
            if keyword in _NAMED and isinstance(value, dict):
                waiting += value.values()
            elif keyword not in _VALUES:
                waiting.append(value)
    if {"unevaluatedProperties", "patternProperties"} <= keywords:
        raise SpecInvalid(f"{name} has unevaluatedProperties beside patternProperties, which is not supported")


def _compiled(pattern: str, name: str) -> None:
    try:
        compile_pattern(pattern)
    except SpecInvalid as exc:
        raise SpecInvalid(f"{name}: {exc.message}", hint=exc.hint) from exc


def _bounded(base: Any) -> Any:  # noqa: ANN401 - untyped
    return validators.extend(
        base,
        {"pattern": _pattern, "patternProperties": _pattern_properties, "additionalProperties": _additional},
    )


def _pattern(_: Any, pattern: str, value: Any, __: Any) -> Iterator[Any]:  # noqa: ANN401 - as jsonschema calls it
    if isinstance(value, str) and compile_pattern(pattern).search(value) is None:
        yield exceptions.ValidationError(f"{value!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any,  # noqa: ANN401 - as jsonschema calls it
    patterns: Mapping[str, Any],
    value: Any,  # noqa: ANN401 - as above
    _: Any,  # noqa: ANN401 - as above
) -> Iterator[Any]:
    if isinstance(value, dict):
        for pattern, below in patterns.items():
            for name, one in value.items():
                if compile_pattern(pattern).search(name) is not None:
                    yield from validator.descend(one, below, path=name, schema_path=pattern)


def _additional(validator: Any, rule: Any, value: Any, schema: Mapping[str, Any]) -> Iterator[Any]:  # noqa: ANN401 - as above
    if not isinstance(value, dict):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    others = [
        name
        for name in value
        if name not in known and not any(compile_pattern(pattern).search(name) for pattern in patterns)
    ]
    if isinstance(rule, dict):
        for name in others:
            yield from validator.descend(value[name], rule, path=name)
    elif rule is False and others:
        yield exceptions.ValidationError(f"unknown: {', '.join(map(repr, others[:5]))}")


def compile_draft_7(schema: object, name: str) -> Callable[[Any], list[str]]:
    """The same for a schema of draft 7, the one that quilt3 knows. Raises SpecInvalid."""
    return compile_schema(schema, name, draft=jsonschema.Draft7Validator)
