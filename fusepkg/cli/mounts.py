"""mounts and stat."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fusepkg.cli.mounts_shown import show_mounts
from fusepkg.cli.options import JsonOption
from fusepkg.cli.output import print_json, say
from fusepkg.daemon import control, records
from fusepkg.errors import EntryNotFound, NoEntry, NotADirectory


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("mounts")(list_mounts)
    app.command()(stat)


def list_mounts(context: typer.Context, as_json: JsonOption = False) -> None:
    """List this user's mounts."""
    show_mounts(as_json)


def stat(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A file in a mounted directory.")],
    as_json: JsonOption = False,
) -> None:
    """Tell an entry's hash, object, metadata, and whether it is cached."""
    record, inner = records.find_record(path)
    try:
        facts: dict[str, Any] = control.ask(Path(record.socket), control.Question("stat", inner))
    except (NoEntry, NotADirectory) as exc:
        raise EntryNotFound(
            f"{path} is not there: {record.reference} has no such entry", hint=f"`fusepkg ls {record.reference}`"
        ) from exc
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        say(f"{name.replace('_', ' ') + ':':<15} {value}")
