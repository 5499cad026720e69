"""YAML whose mistakes are named by their lines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from fusepkg.errors import SpecInvalid
from fusepkg.schemas.libraries import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

_T = TypeVar("_T")

MAX_BYTES = 1 << 20
"""Of one document."""

_MAX_DEPTH = 50
"""Levels of nesting."""

Path = tuple[str | int, ...]

_AT = re.compile(r" - at `(?:key in )?\$?([^`]*)`$")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")


@dataclass(frozen=True, slots=True)
class Document:
    """A document that has been read: ``lines`` has the line of each key and item, counted from 1."""

    name: str
    value: Any
    lines: Mapping[Path, int]

    def line(self, *path: str | int) -> int:
        """Return the line of a key, or of the closest that is above it."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]

    def wrong(self, path: Path, message: str, hint: str = "") -> SpecInvalid:
        """Return the error for what stands at a place."""
        return SpecInvalid(f"{self.name} line {self.line(*path)}: {message}", hint=hint)

    def convert(self, kind: type[_T]) -> _T:
        """Return the value as a struct. Raises SpecInvalid, which names the line."""
        try:
            return msgspec.convert(self.value, kind)
        except msgspec.ValidationError as exc:
            raise self._unfit(str(exc), kind) from exc

    def _first_like(self, path: Path) -> Path:
        """Return the first path that is the same but for ``...``, which stands for any name."""
        for known in self.lines:
            if len(known) == len(path) and all(b in (a, "...") for a, b in zip(known, path, strict=True)):
                return known
        return path

    def _unfit(self, said: str, kind: type) -> SpecInvalid:
        where = _AT.search(said)
        path = _path(where[1]) if where else ()
        message = said[: where.start()] if where else said
        unknown = _UNKNOWN.search(said)
        if unknown is None:
            shown = ".".join(str(step) for step in path)
            return self.wrong(path, f"{shown or 'the document'}: {message}")
        known = ", ".join(_fields_at(kind, path))
        return self.wrong(
            self._first_like((*path, unknown[1])),
            f"unknown key {unknown[1]!r}",
            f"Known here: {known}" if known else "",
        )


def read_document(data: bytes, name: str) -> Document:
    """Read YAML, of which JSON is a part. Raises SpecInvalid for mistakes, keys that come twice, and aliases."""
    if len(data) > MAX_BYTES:
        raise SpecInvalid(f"{name} has {len(data):,} bytes", hint=f"At most {MAX_BYTES:,} are read")
    try:
        root = yaml.compose(data.decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as exc:
        raise SpecInvalid(f"{name} is not UTF-8: {exc.reason} at byte {exc.start}") from exc
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise SpecInvalid(f"{name}{where}: not YAML: {getattr(exc, 'problem', None) or exc}") from exc
    except RecursionError as exc:
        raise SpecInvalid(f"{name} is nested too deep") from exc
    reading = _Reading(name)
    value = reading.value(root, ()) if root is not None else None
    return Document(name, value, {(): 1, **reading.lines})


class _Reading:
    def __init__(self, name: str) -> None:
        self.lines: dict[Path, int] = {}
        self._name = name
        self._seen: set[int] = set()
        self._scalars = yaml.SafeLoader("")

    def value(self, node: Any, path: Path) -> Any:  # noqa: ANN401 - YAML is anything
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        if id(node) in self._seen:
            raise SpecInvalid(f"{self._name} line {line}: an alias (*name)", hint="Write it out")
        self._seen.add(id(node))
        if len(path) > _MAX_DEPTH:
            raise SpecInvalid(f"{self._name} line {line}: nested too deep")
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, number)) for number, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        try:
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError) as exc:
            raise SpecInvalid(f"{self._name} line {line}: {getattr(exc, 'problem', None) or exc}") from exc

    def _mapping(self, node: Any, path: Path) -> dict[str, Any]:  # noqa: ANN401 - as above
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key_node.value == "<<":
                raise SpecInvalid(f"{self._name} line {line}: a key that is not a name")
            key = key_node.value
            if key in found:
                raise SpecInvalid(f"{self._name} line {line}: the key {key!r} comes twice")
            self.lines[(*path, key)] = line
            found[key] = self.value(value_node, (*path, key))
        return found


def _path(text: str) -> Path:
    steps = (found.groups() for found in _STEP.finditer(text))
    return tuple(name if name is not None else int(number) if number.isdigit() else "..." for name, number in steps)


def _fields_at(kind: Any, path: Path) -> list[str]:  # noqa: ANN401 - types of all sorts
    """Return the names that a struct has at a path below another."""
    info = msgspec.inspect.type_info(kind)
    for step in path:
        below = _below(info, step)
        if below is None:
            return []
        info = below
    structs = [one for one in _choices(info) if isinstance(one, msgspec.inspect.StructType)]
    return [field.encode_name for struct in structs for field in struct.fields]


def _below(info: msgspec.inspect.Type, step: str | int) -> msgspec.inspect.Type | None:
    for choice in _choices(info):
        if isinstance(choice, msgspec.inspect.StructType):
            return next((field.type for field in choice.fields if field.encode_name == step), None)
        if isinstance(choice, msgspec.inspect.ListType):
            return choice.item_type
        if isinstance(choice, msgspec.inspect.DictType):
            return choice.value_type
    return None


def _choices(info: msgspec.inspect.Type) -> tuple[msgspec.inspect.Type, ...]:
    return info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
