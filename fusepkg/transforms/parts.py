"""The parts of a transform: entries that are handed to one call together, and the name of what came of them."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fusepkg.app.context import Context
    from fusepkg.fetch.blocking_reader import BlockingReader
    from fusepkg.index.opening import Index
    from fusepkg.model.entry import Entry
    from fusepkg.model.reference import Reference

MOST_IN_A_BATCH = 64
"""Parts that a worker does before it says so: what a killed worker has done in vain."""

_BATCHES_PER_WORKER = 16
"""At least so many: a killed driver and its workers repeat a sixteenth at most."""


class SourcePackage(Protocol):
    """A package that pickles, as programs have it."""

    @property
    def reference(self) -> Reference:
        """With the hash of the version."""
        ...

    @property
    def index(self) -> Index:
        """The open index."""
        ...

    @property
    def context(self) -> Context:
        """What it was opened with."""
        ...

    @property
    def reader(self) -> BlockingReader:
        """Where its bytes come from."""
        ...

    def entry_at(self, number: int) -> Any:  # noqa: ANN401 - what the function takes
        """The entry of a number."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """The numbers of some entries, and the name of what a function makes of them."""

    key: str
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Identity:
    """What is run: its name for people, and a hash that changes with its code."""

    name: str
    version: str


def identity_of(function: Callable[..., object], version: str | None) -> Identity:
    """Return the identity of a function: of its source, or of ``version`` where the caller says one.

    What a function calls, and variables that it sees, are no part of it.
    """
    own = getattr(function, "transform_identity", None)
    if own is not None:
        name, code = own()
    else:
        name, code = _name_and_code(function)
    text = json.dumps([name, version if version is not None else code])
    return Identity(name, hashlib.sha256(text.encode()).hexdigest()[:32])


def _name_and_code(function: Callable[..., object]) -> tuple[str, str]:
    if isinstance(function, functools.partial):
        name, code = _name_and_code(function.func)
        return name, f"{code}\n{function.args!r}\n{sorted(function.keywords.items())!r}"
    described: Any = function if inspect.isfunction(function) else type(function)
    name = f"{described.__module__}.{described.__qualname__}"
    try:
        code = inspect.getsource(described)
    except (OSError, TypeError):
        compiled = getattr(function, "__code__", None)
        code = compiled.co_code.hex() + repr(compiled.co_consts) if compiled else name
    return name, code if inspect.isfunction(function) else f"{code}\n{function!r}"


def make_parts(source: SourcePackage, numbers: Sequence[int], by: int) -> Iterator[Part]:
    """Yield the parts of some entries, ``by`` in each. A part's name changes with names, bytes and metadata."""
    entries = source.index.entries
    for start in range(0, len(numbers), by):
        some = tuple(numbers[start : start + by])
        hashing = hashlib.sha256(b"entries" if by > 1 else b"entry")
        for number in some:
            hashing.update(_line(entries.entry(number)))
        yield Part(hashing.hexdigest(), some)


def _line(entry: Entry) -> bytes:
    said = [entry.logical_key, str(entry.digest), entry.size, dict(entry.meta)]
    return json.dumps(said, sort_keys=True, ensure_ascii=True).encode() + b"\n"


def make_batches(parts: Sequence[Part], workers: int) -> list[tuple[Part, ...]]:
    """Return the parts in batches: few enough for a killed run to lose little, many enough for records to be few."""
    size = max(1, min(MOST_IN_A_BATCH, len(parts) // (_BATCHES_PER_WORKER * workers)))
    return [tuple(parts[start : start + size]) for start in range(0, len(parts), size)]
