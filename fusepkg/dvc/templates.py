"""Templates of a `dvc.yaml`: `vars`, `${...}`, `foreach` and `matrix`, filled in as DVC does."""

from __future__ import annotations

import copy
import itertools
import math
import posixpath
import re
import shlex
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fusepkg.dvc.values import read_values
from fusepkg.errors import RepositoryUnfit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fusepkg.dvc.yaml_file import YamlFile, YamlPlace

PARAMS = "params.yaml"
"""The file whose values can be used without naming it."""

_EXPRESSION = re.compile(r"(?<!\\)\$\{(.*?)\}")
_PATH = re.compile(r"[^.\[\]]+(?:\.[^.\[\]]+|\[[^.\[\]]+\])*")
_ESCAPED = r"\${"

_MOST_STAGES = 100_000
"""Stages of one matrix: more are taken for a slip."""


@dataclass(frozen=True, slots=True)
class Expanded:
    """One stage with all templates filled in; ``group`` is the name of its `foreach` or `matrix`, else empty."""

    name: str
    entry: dict[str, Any]
    place: YamlPlace
    group: str = ""


@dataclass(slots=True)
class Variables:
    """What templates can use. ``read`` gives a file by its path from the `dvc.yaml`, None if it is not there.

    ``options`` are those of `[parsing]` in DVC's configuration.
    """

    read: Callable[[str], bytes | None]
    options: Mapping[str, str]
    values: dict[str, Any] = field(default_factory=dict)
    loaded: dict[str, frozenset[str] | None] = field(default_factory=dict)

    def load(self, items: Any, directory: str, place: YamlPlace, reserved: tuple[str, ...] = ()) -> None:  # noqa: ANN401 - YAML
        """Add what `vars` lists: mappings, and files (perhaps `FILE:KEY,KEY`). Raises RepositoryUnfit."""
        if not isinstance(items, list):
            raise RepositoryUnfit(f"{place}: `vars` is no list")
        for number, item in enumerate(items):
            at = place.at(number)
            if _has_template(item):
                raise RepositoryUnfit(f"{at}: `vars` cannot have templates", hint="Write the value itself")
            if isinstance(item, str):
                found = self._from_file(item, directory, at)
            elif isinstance(item, dict):
                found = item
            else:
                raise RepositoryUnfit(f"{at}: {str(item)[:80]!r} is neither a file nor values")
            if taken := [key for key in reserved if key in found]:
                raise RepositoryUnfit(f"{at}: `{taken[0]}` stands for what `foreach` or `matrix` goes over")
            _merge(self.values, found, at)

    def fill(self, value: Any, place: YamlPlace, key: str | None = None) -> Any:  # noqa: ANN401 - YAML
        """Return a value of the file with its templates filled in; ``key`` is that of the stage which it is of.

        Raises RepositoryUnfit, with the line.
        """
        if isinstance(value, dict):
            return {self.fill(one, place, key): self.fill(value[one], place.at(one), key) for one in value}
        if isinstance(value, list):
            return [self.fill(one, place.at(number), key) for number, one in enumerate(value)]
        if not isinstance(value, str):
            return value
        whole = _EXPRESSION.fullmatch(value)
        if whole and "}" not in whole[1]:
            return self._value(whole[1], place, key)
        filled = _EXPRESSION.sub(lambda match: self._text(self._value(match[1], place, key), place), value)
        return filled.replace(_ESCAPED, "${")

    def copied(self) -> Variables:
        """Return variables that can get more without changing these."""
        return replace(self, values=copy.deepcopy(self.values), loaded=dict(self.loaded))

    def with_items(self, items: Mapping[str, Any]) -> Variables:
        """Return variables with some more, which hide others of these names."""
        return replace(self, values={**self.values, **items})

    def _from_file(self, item: str, directory: str, place: YamlPlace) -> dict[str, Any]:
        path, _, listed = item.partition(":")
        path = posixpath.normpath(posixpath.join(directory, path))
        keys = frozenset(filter(None, listed.split(",")))
        before = self.loaded.get(path, frozenset())
        if before is None and not keys:
            return {}
        if path in self.loaded and (before is None or not keys or before & keys):
            raise RepositoryUnfit(f"{place}: {item} is loaded already", hint="Name each file once, or other keys of it")
        text = self.read(path)
        if text is None:
            raise RepositoryUnfit(f"{place}: {path} is not there", hint="Put it there, or take it out of `vars`")
        found = read_values(text, path)
        if missing := sorted(keys - found.keys()):
            raise RepositoryUnfit(f"{place}: {path} has no {missing[0]!r}")
        self.loaded[path] = (before or frozenset()) | keys if keys else None
        return {key: value for key, value in found.items() if not keys or key in keys}

    def _value(self, expression: str, place: YamlPlace, key: str | None) -> Any:  # noqa: ANN401 - YAML
        if not _PATH.fullmatch(expression):
            raise RepositoryUnfit(
                f"{place}: `${{{expression}}}` is no template",
                hint=r"Write ${NAME}, ${NAME.KEY} or ${NAME[0]}; \${...} is for the shell",
            )
        at: Any = self.values
        for part in expression.replace("[", ".").replace("]", "").split("."):
            try:
                at = at[int(part)] if isinstance(at, list) else _mapping(at)[part.strip()]
            except (LookupError, ValueError, TypeError) as exc:
                raise RepositoryUnfit(
                    f"{place}: there is no value for `${{{expression}}}`",
                    hint=rf"Put it into {PARAMS} or `vars`; \${{{expression}}} is for the shell",
                ) from exc
        if key is not None and isinstance(at, dict | list) and not (key == "cmd" and isinstance(at, dict)):
            raise RepositoryUnfit(f"{place}: `${{{expression}}}` is a {_kind(at)}, which cannot stand in `{key}`")
        return at

    def _text(self, value: Any, place: YamlPlace) -> str:  # noqa: ANN401 - YAML
        return " ".join(self._flags(value, place)) if isinstance(value, dict) else as_text(value)

    def _flags(self, values: dict[str, Any], place: YamlPlace, above: str = "") -> Iterator[str]:
        """Yield a mapping as arguments of a command: `--key value`."""
        for key, value in values.items():
            flag = f"--{above}{key}"
            if isinstance(value, dict):
                yield from self._flags(value, place, f"{above}{key}.")
            elif isinstance(value, bool):
                if value:
                    yield flag
                elif self.options.get("bool") == "boolean_optional":
                    yield f"--no-{above}{key}"
            elif isinstance(value, list):
                if any(isinstance(one, dict | list) for one in value):
                    raise RepositoryUnfit(f"{place}: the list {above}{key} has lists in it, which no argument can have")
                words = [shlex.quote(one) if isinstance(one, str) else str(one) for one in value]
                yield from (
                    [f"{flag} {word}" for word in words]
                    if self.options.get("list") == "append"
                    else ([f"{flag} {' '.join(words)}"] if words else [])
                )
            else:
                yield f"{flag} {shlex.quote(value) if isinstance(value, str) else value}"


def expand(document: YamlFile, variables: Variables, only: str | None = None) -> Iterator[Expanded]:
    """Yield the stages of a `dvc.yaml` with templates filled in; with ``only`` those of one name or group.

    Raises RepositoryUnfit, with the line.
    """
    content, top = document.content or {}, document.top
    if variables.read(PARAMS) is not None:
        variables.load([PARAMS], ".", top)
    variables.load(content.get("vars") or [], ".", top.at("vars"))
    for name, definition in (content.get("stages") or {}).items():
        if only is not None and name != only:
            continue
        place = top.at("stages", name)
        if not isinstance(definition, dict):
            raise RepositoryUnfit(f"{place}: stage {name} is no mapping")
        if "foreach" in definition or "do" in definition:
            yield from _each(name, definition, place, variables)
        elif "matrix" in definition:
            yield from _matrix(name, definition, place, variables)
        else:
            yield _stage(name, definition, place, variables)


def as_text(value: Any) -> str:  # noqa: ANN401 - YAML
    """Return a value as it stands in a text."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _stage(
    name: str,
    definition: dict[str, Any],
    place: YamlPlace,
    variables: Variables,
    group: str = "",
    items: Any = None,  # noqa: ANN401 - YAML
) -> Expanded:
    if items is not None:
        variables = variables.with_items(items)
    if definition.get("vars"):
        directory = variables.fill(definition.get("wdir") or ".", place.at("wdir"), "wdir")
        variables = variables.copied()
        variables.load(definition["vars"], str(directory), place.at("vars"), tuple(items or ()))
    entry = {key: variables.fill(value, place.at(key), key) for key, value in definition.items() if key != "vars"}
    return Expanded(name, entry, place, group)


def _each(name: str, definition: dict[str, Any], place: YamlPlace, variables: Variables) -> Iterator[Expanded]:
    if set(definition) != {"foreach", "do"} or not isinstance(definition["do"], dict):
        raise RepositoryUnfit(f"{place}: stage {name} needs `foreach` and `do`, a mapping, and nothing else")
    written = definition["foreach"]
    over = variables.fill(written, place.at("foreach"))
    if isinstance(over, dict):
        found = {as_text(key): {"item": value, "key": as_text(key)} for key, value in over.items()}
    elif not isinstance(over, list):
        raise RepositoryUnfit(f"{place.at('foreach')}: `foreach` of stage {name} is neither a list nor a mapping")
    elif any(isinstance(one, dict | list) for one in over):
        found = {str(number): {"item": value} for number, value in enumerate(over)}
    else:
        found = {_named(value, written, number): {"item": value} for number, value in enumerate(over)}
    for key, items in found.items():
        yield _stage(f"{name}@{key}", definition["do"], place.at("do"), variables, name, items)


def _matrix(name: str, definition: dict[str, Any], place: YamlPlace, variables: Variables) -> Iterator[Expanded]:
    written = definition["matrix"]
    over = variables.fill(written, place.at("matrix"))
    if not isinstance(over, dict) or not all(isinstance(values, list) for values in over.values()):
        raise RepositoryUnfit(f"{place.at('matrix')}: `matrix` of stage {name} is no mapping of lists")
    if math.prod(len(values) for values in over.values()) > _MOST_STAGES:
        raise RepositoryUnfit(f"{place.at('matrix')}: stage {name} would be more than {_MOST_STAGES:,} stages")
    template = {key: value for key, value in definition.items() if key != "matrix"}
    for chosen in itertools.product(*(list(enumerate(values)) for values in over.values())):
        parts = [
            f"{axis}{number}" if isinstance(value, dict | list) else _named(value, written[axis], number)
            for axis, (number, value) in zip(over, chosen, strict=True)
        ]
        key = "-".join(parts)
        item = {axis: value for axis, (_, value) in zip(over, chosen, strict=True)}
        yield _stage(f"{name}@{key}", template, place, variables, name, {"item": item, "key": key})


def _named(value: Any, written: Any, number: int) -> str:  # noqa: ANN401 - YAML
    """Return what a value is in the name of a stage: DVC writes `True` for one that comes from a variable."""
    return str(value) if isinstance(written, str) or isinstance(written[number], str) else as_text(value)


def _merge(into: dict[str, Any], more: Mapping[str, Any], place: YamlPlace, above: str = "") -> None:
    for key, value in more.items():
        if isinstance(into.get(key), dict) and isinstance(value, dict):
            into[key] = dict(into[key])
            _merge(into[key], value, place, f"{above}{key}.")
        elif key in into:
            raise RepositoryUnfit(f"{place}: `{above}{key}` has a value already", hint="Give each variable one value")
        else:
            into[key] = value


def _mapping(value: Any) -> dict[str, Any]:  # noqa: ANN401 - YAML
    if not isinstance(value, dict):
        raise TypeError("no mapping")
    return value


def _kind(value: dict[str, Any] | list[Any]) -> str:
    return "mapping" if isinstance(value, dict) else "list"


def _has_template(value: Any) -> bool:  # noqa: ANN401 - YAML
    if isinstance(value, dict):
        return any(_has_template(one) for pair in value.items() for one in pair)
    if isinstance(value, list):
        return any(map(_has_template, value))
    return isinstance(value, str) and bool(_EXPRESSION.search(value))
