"""snapshot and reproduce: a finished job as a version, and a directory to run it again in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fusepkg.cli.options import JsonErrorsOption, RefArgument, settings_of
from fusepkg.cli.output import counted, note, progress_bar, say, short, show_phase
from fusepkg.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(snapshot)
    app.command()(reproduce)


def snapshot(
    context: typer.Context,
    ref: RefArgument,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[-- COMMAND]", help="The command that was run, after `--`.")
    ] = None,
    output: Annotated[
        list[str] | None, typer.Option("--output", "-o", metavar="PATH", help="What the job has made; may be repeated.")
    ] = None,
    message: Annotated[
        str | None, typer.Option("--message", "-m", metavar="TEXT", help="Why, for `log`; part of the version.")
    ] = None,
    seed: Annotated[str | None, typer.Option(metavar="TEXT", help="The seed of the job.")] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="REF[=PATH]", help="A package it has read, and where; mounted ones are known."),
    ] = None,
    image: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The image of its container, with its digest.")
    ] = None,
    python: Annotated[
        str | None, typer.Option(metavar="PATH", help="The Python whose packages are listed; default: the command's.")
    ] = None,
    _json_errors: JsonErrorsOption = False,
) -> None:
    """Publish a finished job: outputs, commit and changes of git, inputs, environment, command and seed.

    Run it in the job's directory when the job is done; nothing is run by it.
    """
    from fusepkg.opened.contexts import use_flags  # here, because these load what only some commands need
    from fusepkg.snapshots.take import take_snapshot

    use_flags(settings_of(context).flags)
    with progress_bar() as show:
        package = take_snapshot(
            ref,
            output or [],
            command=command or [],
            message=message,
            seed=seed,
            inputs=dict(_named(one) for one in inputs or ()),
            image=image,
            python=python,
            progress=show_phase(show),
        )
    note(f"{counted(len(package), 'file')} of the job, {counted(len(package.meta['snapshot']['inputs']), 'input')}")
    say(f"{package.name} is {short(package.hash)}")


def reproduce(
    context: typer.Context,
    ref: RefArgument,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new directory.")],
    lazy: Annotated[bool, typer.Option("--lazy", help="Mount the inputs instead of downloading them.")] = False,
    _json_errors: JsonErrorsOption = False,
) -> None:
    """Make a directory in which a job can run again, from its snapshot. Nothing is run."""
    from fusepkg.api.package import Package  # here, as above
    from fusepkg.opened.contexts import use_flags
    from fusepkg.snapshots import reproduce as reproducing

    use_flags(settings_of(context).flags)
    with progress_bar() as show:
        done = reproducing.reproduce(Package(ref), directory, lazy=lazy, progress=show_phase(show))
    for path, package in done.placed.items():
        note(f"{'Mounted' if lazy else 'Installed'} {package} at {path}")
    if done.script is None:
        say(f"{directory} holds the job's files; the snapshot has no command")
    else:
        say(f"To run it again: {done.script.relative_to(directory.resolve().parent)}")


def _named(text: str) -> tuple[str, str]:
    package, _, path = text.partition("=")
    if not package:
        raise UsageError(f"--input {text!r} names no package", hint="Write, for example, bucket/dataset:v1=data")
    return package, path
