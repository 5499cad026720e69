"""check and spec infer: whether a package fits a task."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusepkg.cli.opening import open_version
from fusepkg.cli.options import JsonOption, RefArgument, app_of
from fusepkg.cli.output import EXIT_DIFFERENT, counted, human_bytes, note, print_json, progress_bar, say
from fusepkg.errors import UsageError

if TYPE_CHECKING:
    from fusepkg.fit.check import Report

_Sample = Annotated[
    int | None,
    typer.Option("--sample", metavar="N", help="Look into at most N files of each pattern, evenly spread."),
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(check)
    group = typer.Typer(no_args_is_help=True, help="Specifications of what a task needs.")
    group.callback()(_spec)
    group.command()(infer)
    app.add_typer(group, name="spec")


def _spec() -> None:
    """Specifications of what a task needs."""


def check(
    context: typer.Context,
    ref: RefArgument,
    spec: Annotated[Path, typer.Option("--spec", metavar="FILE", help="What the task needs, as YAML or JSON.")],
    sample: _Sample = None,
    as_json: JsonOption = False,
) -> None:
    """Tell whether a package is what a task needs: exit 0 if it fits, 1 with a line for each thing that does not.

    Names, pairs, metadata, classes and splits are told by the manifest; of pictures and tables only headers and
    footers are read.
    """
    from fusepkg.api.package import Package  # here, because these need libraries that only some users have
    from fusepkg.fit.check import check_package
    from fusepkg.fit.spec import read_task_file

    task = read_task_file(spec)
    package = Package.of_version(open_version(app_of(context), ref))
    with progress_bar() as show:
        report = check_package(package, task, sample=sample, progress=show)
    if as_json:
        print_json(_facts(report))
    else:
        for problem in report.problems:
            say(f"{spec}:{problem.line}: {problem}")
        if report.fits:
            say(f"{package.name} fits {spec}")
        note(
            f"Looked into {report.looked_into:,} of {counted(report.files, 'file')}: read "
            f"{human_bytes(report.read_bytes)} of {human_bytes(report.total_bytes)}, "
            f"fetched {human_bytes(report.fetched_bytes)}"
        )
    if not report.fits:
        raise typer.Exit(EXIT_DIFFERENT)


def infer(
    context: typer.Context,
    ref: RefArgument,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there.")] = None,
    sample: _Sample = None,
) -> None:
    """Print a specification that a package fits, to start from."""
    from fusepkg.api.package import Package  # here, as above
    from fusepkg.fit.infer import SAMPLE, infer_spec

    package = Package.of_version(open_version(app_of(context), ref))
    text = infer_spec(package, sample or SAMPLE)
    if output is None:
        say(text.rstrip("\n"))
        return
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as exc:
        raise UsageError(f"{output} cannot be written: {exc.strerror}", hint="Name another file") from exc
    note(f"Written to {output}")


def _facts(report: Report) -> dict[str, object]:
    return {
        "fits": report.fits,
        "problems": [{"path": one.where, "problem": one.what, "line": one.line} for one in report.problems],
        "files": report.files,
        "total_bytes": report.total_bytes,
        "looked_into": report.looked_into,
        "read_bytes": report.read_bytes,
        "fetched_bytes": report.fetched_bytes,
    }
