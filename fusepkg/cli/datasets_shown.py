"""How data rows look, and the arguments that commands of datasets share."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusepkg.cli.output import human_bytes, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fusepkg.datasets import DataRow

RefArgument = Annotated[str, typer.Argument(metavar="REF", help="The dataset: bucket/name.")]
TitleOption = Annotated[str | None, typer.Option(metavar="TEXT", help="Its title, if not the file's name.")]


def print_rows(rows: Sequence[DataRow], *, as_json: bool) -> None:
    """Print data rows: a table, or all their fields as JSON."""
    if as_json:
        print_json([row_facts(asdict(row)) for row in rows])
        return
    cells = [(row.uid, row.data_type, row.title, _size(row), _frames(row), human_bytes(row.file_size)) for row in rows]
    print_table(("hash", "type", "title", "pixels", "", "size"), cells)


def row_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """Return facts as JSON takes them: times as text, without what other fields say already."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in facts.items()
        if name != "meta"
    }


def _size(row: DataRow) -> str:
    return f"{row.width}x{row.height}" if row.width and row.height else ""


def _frames(row: DataRow) -> str:
    if row.images_data is not None:
        return f"{len(row.images_data):,} files"
    if row.frames is None:
        return ""
    return f"{row.frames:,} frames" + (f", {row.frames_per_second:g}/s" if row.frames_per_second else "")
