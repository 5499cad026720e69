"""transform: one package out of another, by a command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fusepkg.cli.opening import open_version
from fusepkg.cli.options import JsonOption, RefArgument, app_of, settings_of
from fusepkg.cli.output import EXIT_DIFFERENT, counted, note, print_json, progress_bar, say, short
from fusepkg.errors import UsageError
from fusepkg.opened.contexts import use_flags

if TYPE_CHECKING:
    from fusepkg.api.package import Mapped
    from fusepkg.transforms.command import Command

_Executor = Annotated[
    str, typer.Option(metavar="NAME", help="threads, processes, dask, ray, spark, or one that was installed.")
]
_Jobs = Annotated[int | None, typer.Option("--jobs", "-j", metavar="N", help="How many at a time.")]
_Version = Annotated[
    str | None,
    typer.Option("--code-version", metavar="TEXT", help="Of the command; default: its words, and files named by them."),
]
_Message = Annotated[
    str | None, typer.Option("--message", "-m", metavar="TEXT", help="Why, for `log`; part of the version.")
]
_AsTask = Annotated[
    bool,
    typer.Option("--task", help="Submit it as a task, which goes on when this command ends, and print its number."),
]
_NoStart = Annotated[
    bool, typer.Option("--no-start", help="Only submit the task: a worker elsewhere does it (`tasks run --command`).")
]


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
    executor: _Executor = "threads",
    jobs: _Jobs = None,
    version: _Version = None,
    message: _Message = None,
    as_task: _AsTask = False,
    no_start: _NoStart = False,
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
    if as_task or no_start:
        if executor != "threads" or jobs is not None:
            raise UsageError("a task runs on threads of its worker", hint="Leave out --executor and --jobs, or --task")
        use_flags(settings_of(context).flags)
        source = f"{package.reference.package}@{package.hash}"
        _submit(source, to, run, names, by, version, message, start=not no_start, as_json=as_json)
        return
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


def _submit(
    source: str,
    to: str,
    run: Command,
    names: str,
    by: int,
    version: str | None,
    message: str | None,
    *,
    start: bool,
    as_json: bool,
) -> None:
    from fusepkg.api.transform_task import TransformTask, submit_transform

    asked = TransformTask(
        source=source,
        out=to,
        command=list(run.words),
        suffix=run.suffix,
        names=names,
        by=by,
        version=version,
        message=message,
    )
    number = submit_transform(asked, start=start).number
    if as_json:
        print_json({"task": number})
    else:
        say(str(number))


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
