"""transform: one package out of another, by a command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fusepkg.cli.opening import open_version
from fusepkg.cli.options import JsonOption, RefArgument, app_of
from fusepkg.cli.output import EXIT_DIFFERENT, counted, note, print_json, progress_bar, say, short

if TYPE_CHECKING:
    from fusepkg.api.package import Mapped


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(transform)


def transform(
    context: typer.Context,
    ref: RefArgument,
    command: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND", help="The command, after `--`, with {in} and {out} in it.")
    ],
    to: Annotated[str, typer.Option("--to", metavar="REF", help="The new package: bucket/name:tag.")],
    names: Annotated[
        str, typer.Option(metavar="PATTERN", help="Only these entries, as in .gitignore: train/**/*.jpg.")
    ] = "",
    by: Annotated[
        int, typer.Option(metavar="N", help="N entries in each call; {in} and {out} are directories then.")
    ] = 1,
    suffix: Annotated[str, typer.Option(metavar="TEXT", help="The new ending of names: .png.")] = "",
    executor: Annotated[
        str, typer.Option(metavar="NAME", help="threads, processes, dask, ray, spark, or one that was installed.")
    ] = "threads",
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", metavar="N", help="How many at a time.")] = None,
    version: Annotated[
        str | None,
        typer.Option(
            "--code-version", metavar="TEXT", help="Of the command; default: its words, and files named by them."
        ),
    ] = None,
    message: Annotated[
        str | None, typer.Option("--message", "-m", metavar="TEXT", help="Why, for `log`; part of the version.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a command over each entry of a package, and publish what it writes as a new package.

    A repeat does only what is missing. Entries on which the command fails are listed, and left out; exit code 1 then.
    """
    from fusepkg.api.package import Package  # here, because these load what only some commands need
    from fusepkg.transforms.command import Command

    run = Command(tuple(command), suffix)
    run.check()
    package = Package.of_version(open_version(app_of(context), ref))
    with progress_bar() as show:
        made = package.map(
            run,
            out=to,
            executor=executor,
            jobs=jobs,
            names=names,
            by=by,
            version=version,
            message=message,
            progress=lambda done, total: show("Transforming", done, total),
        )
    _tell(made, to, as_json=as_json)
    if made.failures:
        raise typer.Exit(EXIT_DIFFERENT)


def _tell(made: Mapped, to: str, *, as_json: bool) -> None:
    if as_json:
        failures = [{"paths": list(one.logical_keys), "error": one.error} for one in made.failures]
        facts = {"top_hash": made.package.hash, "done": made.done, "reused": made.reused}
        print_json({**facts, "entries": len(made.package), "failures": failures})
        return
    for failure in made.failures:
        say(f"failed: {failure}")
    note(f"{made.done:,} done, {made.reused:,} there already, {len(made.failures):,} failed")
    say(f"{to} is {short(made.package.hash)}: {counted(len(made.package), 'file')}")
