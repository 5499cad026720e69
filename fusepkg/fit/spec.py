"""What a task needs of its data, as a file says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from fusepkg.errors import SpecInvalid
from fusepkg.publish.ignore_patterns import IgnorePattern, parse_pattern
from fusepkg.schemas.documents import Document, read_document
from fusepkg.schemas.json_schema import compile_schema
from fusepkg.schemas.patterns import compile_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

FORMAT = 1
"""Of the specification, its ``version``."""

WORDS = ("any", "integer", "number", "boolean", "string", "binary", "date", "timestamp", "list", "struct")
"""Types of columns, whatever their width; Parquet's own (``int64``) are known besides."""

Amount = float | dict[str, float]
"""A number, or ``{min: 1, max: 9}``."""


class Pictures(msgspec.Struct, forbid_unknown_fields=True):
    """What pictures are like. Sizes are pixels, ``channels`` are those of the mode."""

    formats: list[str] = []
    modes: list[str] = []
    width: Amount | None = None
    height: Amount | None = None
    channels: Amount | None = None


class Table(msgspec.Struct, forbid_unknown_fields=True):
    """What Parquet and CSV files are like: type by name of a column."""

    columns: dict[str, str] = {}
    others: bool = True
    rows: Amount | None = None


class Files(msgspec.Struct, forbid_unknown_fields=True):
    """What the files of one pattern are like."""

    names: str = ""
    matching: str = ""
    count: Amount | None = None
    size: Amount | None = None
    pair: str | list[str] = []
    pictures: Pictures | None = None
    table: Table | None = None
    json: dict[str, Any] | bool | None = None
    meta: dict[str, Any] | None = None


class Classes(msgspec.Struct, forbid_unknown_fields=True):
    """Which classes there are, and how many samples of each."""

    names: str = ""
    by: str = ""
    table: str = ""
    column: str = ""
    expected: list[str] = []
    each: Amount | None = None
    ratio: float | None = None


class Splits(msgspec.Struct, forbid_unknown_fields=True):
    """Which part is for training and which for testing, and what may not be in two of them."""

    parts: dict[str, str]
    share: dict[str, Amount] = {}
    apart: list[str] = msgspec.field(default_factory=lambda: ["content"])


class Spec(msgspec.Struct, forbid_unknown_fields=True):
    """A whole specification. ``others`` is False where each file has to be one that ``files`` names."""

    version: int
    files: list[Files] = []
    others: bool = True
    meta: dict[str, Any] | None = None
    classes: list[Classes] = []
    splits: Splits | None = None


@dataclass(frozen=True, slots=True)
class DataSpec:
    """A specification that has been read and makes sense; ``document`` knows the line of each key."""

    document: Document
    spec: Spec
    schemas: Mapping[tuple[str | int, ...], Callable[[Any], list[str]]]
    """The compiled JSON Schemas, by where they stand."""


def read_task(data: bytes, name: str) -> DataSpec:
    """Read a specification. Raises SpecInvalid, which names the line that is wrong."""
    document = read_document(data, name)
    if not isinstance(document.value, dict):
        raise SpecInvalid(f"{name} holds no specification", hint="`fusepkg spec infer REF` writes one to start from")
    spec = document.convert(Spec)
    if spec.version != FORMAT:
        raise document.wrong(("version",), f"version {spec.version} is not known, only {FORMAT}")
    schemas: dict[tuple[str | int, ...], Callable[[Any], list[str]]] = {}
    for number, files in enumerate(spec.files):
        _check_files(document, files, number)
        for key in ("json", "meta"):
            if isinstance(schema := getattr(files, key), dict):
                schemas["files", number, key] = _compiled(document, schema, ("files", number, key))
    if spec.meta is not None:
        schemas["meta",] = _compiled(document, spec.meta, ("meta",))
    for number, classes in enumerate(spec.classes):
        _check_classes(document, classes, ("classes", number))
    if spec.splits is not None:
        _check_splits(document, spec.splits)
    return DataSpec(document, spec, schemas)


def read_task_file(path: Path) -> DataSpec:
    """Read a specification from a file. Raises SpecInvalid."""
    try:
        return read_task(path.read_bytes(), str(path))
    except OSError as exc:
        raise SpecInvalid(f"{path} cannot be read: {exc.strerror}") from exc


def glob(text: str) -> IgnorePattern:
    """Return a pattern as ignore files have them. Raises SpecInvalid."""
    pattern = None if text.startswith(("#", "!")) or text.endswith("/") else parse_pattern(text)
    if pattern is None:
        raise SpecInvalid(f"{text!r} matches no file", hint="Write, for example, train/**/*.jpg")
    return pattern


# --- what makes no sense -----------------------------------------------------------------------------------------


def _check_files(document: Document, files: Files, number: int) -> None:
    at = ("files", number)
    if bool(files.names) == bool(files.matching):
        raise document.wrong(at, "needs either names (a pattern such as *.jpg) or matching (a regular expression)")
    _guarded(document, (*at, "names" if files.names else "matching"), lambda: _pattern_of(files))
    for key in ("count", "size"):
        _check_amount(document, getattr(files, key), (*at, key))
    if files.pictures is not None:
        for key in ("width", "height", "channels"):
            _check_amount(document, getattr(files.pictures, key), (*at, "pictures", key))
    if files.table is not None:
        _check_amount(document, files.table.rows, (*at, "table", "rows"))


def _pattern_of(files: Files) -> object:
    return glob(files.names) if files.names else compile_pattern(files.matching)


def _check_classes(document: Document, classes: Classes, at: tuple[str | int, ...]) -> None:
    if classes.table:
        if not classes.column or classes.by:
            raise document.wrong(at, "table goes with column, the one that holds the class, and without by")
    elif classes.by != "directory" and not classes.by.startswith("meta."):
        raise document.wrong(at, "needs by: directory, by: meta.NAME, or table and column")
    if not classes.table:
        _guarded(document, (*at, "names"), lambda: glob(classes.names))
    _check_amount(document, classes.each, (*at, "each"))
    if classes.ratio is not None and classes.ratio < 1:
        raise document.wrong((*at, "ratio"), "ratio: the largest class by the smallest is never below 1")


def _check_splits(document: Document, splits: Splits) -> None:
    for name, pattern in splits.parts.items():
        _guarded(document, ("splits", "parts", name), lambda pattern=pattern: glob(pattern))  # type: ignore[misc]  # the default
    for number, what in enumerate(splits.apart):
        if what not in ("content", "name", "stem") and not what.startswith("meta."):
            raise document.wrong(("splits", "apart", number), f"{what!r} is none of content, name, stem, meta.NAME")
    for name, share in splits.share.items():
        if name not in splits.parts:
            raise document.wrong(("splits", "share", name), f"there is no part {name!r}")
        _check_amount(document, share, ("splits", "share", name))


def _check_amount(document: Document, amount: Amount | None, at: tuple[str | int, ...]) -> None:
    if isinstance(amount, dict):
        if not amount or amount.keys() - {"min", "max"}:
            unknown = sorted(amount.keys() - {"min", "max"})
            raise document.wrong(
                (*at, *unknown[:1]), f"unknown key {unknown[0]!r}" if unknown else "is empty", "Known here: min, max"
            )
        if amount.get("min", 0) > amount.get("max", float("inf")):
            raise document.wrong(at, "min is larger than max")


def _compiled(document: Document, schema: object, at: tuple[str | int, ...]) -> Callable[[Any], list[str]]:
    try:
        return compile_schema(schema, "the schema")
    except SpecInvalid as exc:
        raise document.wrong(at, exc.message, exc.hint) from exc


def _guarded(document: Document, at: tuple[str | int, ...], compute: Callable[[], object]) -> None:
    try:
        compute()
    except SpecInvalid as exc:
        raise document.wrong(at, exc.message, exc.hint) from exc
