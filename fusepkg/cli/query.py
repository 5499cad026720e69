"""The command query."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Annotated

import typer

from fusepkg.cli.opening import open_version
from fusepkg.cli.options import JsonOption, RefArgument, app_of
from fusepkg.cli.output import counted, note, print_table, writing_output
from fusepkg.errors import UsageError

TimeoutOption = Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="Stop the query after so long.")]


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(query)


def query(
    context: typer.Context,
    ref: RefArgument,
    sql: Annotated[
        str, typer.Argument(metavar="SQL", help="One SELECT over `entries` and tables in the package, such as labels.")
    ],
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the rows to FILE.parquet, FILE.csv or FILE.jsonl."),
    ] = None,
    timeout: TimeoutOption = 300.0,
) -> None:
    """Ask for entries, their metadata, and tables in a package, in SQL.

    `entries` has one row an entry: logical_key, name, directory, size, hash, physical_key, kind, and meta as JSON.
    Parquet, CSV and JSON Lines files are tables by their names: labels, 'train/labels.csv', 'parts/*.parquet'.
    """
    from fusepkg.query.result import shown  # here, because these need libraries that only some users have
    from fusepkg.query.run import run_query

    if as_json + as_csv + (output is not None) > 1:
        raise UsageError("--json, --csv and --output exclude each other", hint="Choose one of them")
    result = run_query(open_version(app_of(context), ref), sql, timeout)
    if output is not None:
        result.write(output)
        note(f"{counted(len(result), 'row')} written to {output}")
    elif as_json:
        with writing_output():
            rows = list(result.json_lines())
            print("[\n" + ",\n".join(f"  {row}" for row in rows) + "\n]" if rows else "[]")
    elif as_csv:
        with writing_output():
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(result.columns)
            writer.writerows([shown(value) for value in row] for row in result)
    else:
        print_table(result.columns, ([shown(value) for value in row] for row in result))
