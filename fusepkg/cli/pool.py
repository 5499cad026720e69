"""pool run, submit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusepkg.cli.options import JsonOption, settings_of
from fusepkg.cli.output import counted, note, print_json, print_table, progress_bar, say, short, show_phase
from fusepkg.errors import SystemFailure
from fusepkg.opened.contexts import use_flags

if TYPE_CHECKING:
    from fusepkg.pool.pool import PoolRun

_SHOWN = 40
"""Objects that a run prints; all are in its report."""


def register(app: typer.Typer) -> None:
    """Add these commands."""
    group = typer.Typer(no_args_is_help=True, help="Datapools: datasets that grow by what is new in a bucket.")
    group.command()(run)
    group.command()(submit)
    app.add_typer(group, name="pool")


def run(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What the pool is: source, target, selection (TOML).")],
    process_all: Annotated[
        bool, typer.Option("--process-all", help="Start again from everything, not from what is new.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Write the report and datapool_latest.csv there too."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Look at the pictures and videos that are new, and add what is unlike all that was chosen before.

    The same command again does nothing until there is something new, and goes on where it was interrupted.
    """
    from fusepkg.pool.pool import Pool  # here: what only some users have, as in the others

    use_flags(settings_of(context).flags)
    pool = Pool.from_file(file, process_all=process_all)
    with progress_bar() as show:
        done = pool.run(progress=show_phase(show))
    if output is not None:
        _write_report(done, output)
    _report(done, as_json)


def submit(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What the pool is; all of it in one bucket (TOML).")],
    process_all: Annotated[
        bool, typer.Option("--process-all", help="Start again from everything, not from what is new.")
    ] = False,
    no_start: Annotated[
        bool, typer.Option("--no-start", help="Only submit it: a worker elsewhere does it (`tasks run`).")
    ] = False,
) -> None:
    """Submit a run as a task, which goes on when this command ends, and print its number."""
    from fusepkg.pool.task import submit_run

    use_flags(settings_of(context).flags)
    say(str(submit_run(file, process_all=process_all, start=not no_start).number))


def _report(done: PoolRun, as_json: bool) -> None:
    package = done.package
    if as_json:
        print_json(
            {
                "reference": str(package.reference),
                "tag": done.tag,
                "run": done.run,
                "objects": len(done.objects),
                "pictures": done.pictures,
                "chosen": list(done.chosen),
                "total": done.total,
                "skipped": done.skipped,
            }
        )
        return
    if not done.objects:
        say(f"{package.name} ({short(package.hash)}): nothing new; {counted(done.total, 'picture')} chosen so far")
        return
    looked_at = [one for one in done.objects if not one.skipped]
    rows = [(one.name, f"{one.pictures:,}", f"{one.chosen:,}") for one in looked_at[:_SHOWN]]
    print_table(("OBJECT", "PICTURES", "CHOSEN"), rows)
    if len(looked_at) > _SHOWN:
        note(f"and {len(looked_at) - _SHOWN:,} more: fusepkg cat {package.name} datapool/report.md")
    for name, why in done.skipped.items():
        note(f"Skipped: {name}: {why}")
    say(
        f"{package.name} ({short(package.hash)}), also {done.tag}: {len(done.chosen):,} of {done.pictures:,} new ones"
        f" chosen, {done.total:,} in all"
    )


def _write_report(done: PoolRun, directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for entry in done.package:
            if entry.logical_key.startswith("datapool/") and "/" not in entry.logical_key.removeprefix("datapool/"):
                with entry.open() as read, (directory / entry.logical_key.rpartition("/")[2]).open("wb") as written:
                    shutil.copyfileobj(read, written)
    except OSError as exc:
        raise SystemFailure(f"{directory} cannot be written to: {exc.strerror or exc}") from exc
