"""What is in files: pictures, tables, JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fusepkg.errors import FusepkgError
from fusepkg.fit.problems import outside
from fusepkg.fit.reading import HEAD_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fusepkg.api.entry import PackageEntry
    from fusepkg.fit.problems import Problems
    from fusepkg.fit.reading import Reading
    from fusepkg.fit.spec import Pictures, Table

JSON_BYTES = 64 << 20
"""Largest JSON file that is read; JSON has no header."""

JSON_LINES = 1_000
"""Lines of a JSON Lines file that are looked at, within its first mebibyte."""

_LINES_BYTES = 1 << 20

_LINES_SUFFIXES = (".jsonl", ".ndjson")

At = tuple[str | int, ...]


def check_pictures(
    entries: Iterable[PackageEntry], wanted: Pictures, reading: Reading, problems: Problems, at: At
) -> None:
    """Compare the headers of pictures."""
    from fusepkg.fit.pictures import look_at_picture  # here, because it needs a library of its own

    for entry, head in reading.heads(entries):
        key = entry.logical_key
        if isinstance(head, FusepkgError):
            problems.add(key, f"cannot be read: {head.message}", at)
            continue
        try:
            picture = look_at_picture(head, lambda entry=entry: reading.open(entry))  # type: ignore[misc]  # the default
        except FusepkgError as exc:
            problems.add(key, f"cannot be read: {exc.message}", at)
            continue
        if picture is None:
            problems.add(key, "is no picture", at)
            continue
        if wanted.formats and picture.format not in wanted.formats:
            problems.add(key, f"is {picture.format}, not {' or '.join(wanted.formats)}", (*at, "formats"))
        if wanted.modes and picture.mode not in wanted.modes:
            problems.add(key, f"has mode {picture.mode}, not {' or '.join(wanted.modes)}", (*at, "modes"))
        for name, value in (("width", picture.width), ("height", picture.height), ("channels", picture.channels)):
            noun = "channel" if name == "channels" else "pixel"
            if said := outside(value, getattr(wanted, name), noun):
                problems.add(key, said if name == "channels" else f"{name} is {said}", (*at, name))


def check_tables(entries: Iterable[PackageEntry], wanted: Table, reading: Reading, problems: Problems, at: At) -> None:
    """Compare the columns of Parquet and CSV files."""
    from fusepkg.fit.tables import NoTable, look_at_table, wrong_columns  # here, because it needs PyArrow

    for entry in entries:
        key = entry.logical_key
        try:
            found = look_at_table(entry, reading, count_rows=wanted.rows is not None)
        except NoTable as exc:
            problems.add(key, str(exc), at)
            continue
        except FusepkgError as exc:
            problems.add(key, f"cannot be read: {exc.message}", at)
            continue
        for column, what in wrong_columns(found, wanted.columns, others=wanted.others):
            problems.add(key, what, (*at, "columns", column) if column else (*at, "others"))
        if found.rows is not None and (said := outside(found.rows, wanted.rows, "row")):
            problems.add(key, f"has {said}", (*at, "rows"))


def check_json(
    entries: Iterable[PackageEntry],
    mistakes_of: Callable[[Any], list[str]],
    reading: Reading,
    problems: Problems,
    at: At,
) -> None:
    """Compare JSON files, and the first lines of JSON Lines files, with a schema."""
    for entry in entries:
        try:
            for what in _wrong_json(entry, mistakes_of, reading):
                problems.add(entry.logical_key, what, at)
        except FusepkgError as exc:
            if exc.code.startswith("usage"):
                raise
            problems.add(entry.logical_key, f"cannot be read: {exc.message}", at)


def _wrong_json(entry: PackageEntry, mistakes_of: Callable[[Any], list[str]], reading: Reading) -> Iterator[str]:
    if entry.logical_key.lower().endswith(_LINES_SUFFIXES):
        yield from _wrong_lines(entry, mistakes_of, reading)
    elif entry.size > JSON_BYTES:
        yield f"has {entry.size:,} bytes, more than the {JSON_BYTES:,} that are read of a JSON file"
    else:
        yield from _wrong_text(reading.whole(entry), mistakes_of)


def _wrong_lines(entry: PackageEntry, mistakes_of: Callable[[Any], list[str]], reading: Reading) -> Iterator[str]:
    with reading.open(entry) as file:
        data = file.read(HEAD_BYTES if entry.size <= HEAD_BYTES else _LINES_BYTES)
    whole = data if len(data) == entry.size else data[: data.rfind(b"\n") + 1]
    for number, line in enumerate(whole.splitlines()[:JSON_LINES], 1):
        if line.strip():
            for what in _wrong_text(line, mistakes_of):
                yield f"line {number}: {what}"


def _wrong_text(data: bytes, mistakes_of: Callable[[Any], list[str]]) -> list[str]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as exc:
        return [f"is not JSON: {exc}"]
    return mistakes_of(value)
