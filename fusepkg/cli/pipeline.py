"""The commands stage, repro and dag: pipelines in DVC's files."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from fusepkg.cli.options import JsonErrorsOption, JsonOption, app_of
from fusepkg.cli.output import EXIT_DIFFERENT, counted, note, print_json, say
from fusepkg.gitdata.pointer import SUFFIX
from fusepkg.pipeline import run as pipelines
from fusepkg.pipeline.adding import add_stage, write_pipeline
from fusepkg.pipeline.lock import LOCK
from fusepkg.pipeline.repository import ignore_outputs, pipeline_with, read_pipeline, require_here
from fusepkg.pipeline.stages import PIPELINE, Out


def register(app: typer.Typer) -> None:
    """Add these commands."""
    stage = typer.Typer(no_args_is_help=True, help="The stages of a pipeline, in DVC's dvc.yaml.")
    stage.command("add")(add)
    stage.command("status")(status)
    app.add_typer(stage, name="stage")
    app.command()(repro)
    app.command()(dag)


def add(
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND", help="The command, after `--`.")],
    name: Annotated[str, typer.Option("--name", "-n", metavar="NAME", help="Letters, digits, - and _.")],
    deps: Annotated[
        list[str] | None, typer.Option("--deps", "-d", metavar="PATH", help="A file or directory that it reads.")
    ] = None,
    outs: Annotated[
        list[str] | None, typer.Option("--outs", "-o", metavar="PATH", help="One that it writes; git ignores it.")
    ] = None,
    outs_no_cache: Annotated[
        list[str] | None,
        typer.Option("--outs-no-cache", "-O", metavar="PATH", help="One that it writes; DVC keeps no copy."),
    ] = None,
    params: Annotated[
        list[str] | None,
        typer.Option("--params", "-p", metavar="KEY,...", help="Keys of params.yaml, or FILE:KEY,...; FILE: for all."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a stage of that name.")] = False,
    _json_errors: JsonErrorsOption = False,
) -> None:
    """Add a stage to the dvc.yaml of this directory. Nothing is run."""
    here = Path.cwd()
    written = [*(Out(path) for path in outs or ()), *(Out(path, is_cached=False) for path in outs_no_cache or ())]
    said = command[0] if len(command) == 1 else shlex.join(command)
    text = add_stage(here, name, said, deps or (), written, params or (), force=force)
    stage = pipeline_with(here, text).stages[name]
    write_pipeline(here, text)
    ignored = ignore_outputs(stage)
    say(f"Added stage {name} to dvc.yaml")
    note(f"  To keep that in git: git add {' '.join(['dvc.yaml', *ignored])}")


_NamesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[STAGE...]",
        help="Stages, with what they need: NAME, DIR/dvc.yaml:NAME, DIR/dvc.yaml, an output; default: all here.",
    ),
]
_EverywhereOption = Annotated[
    bool, typer.Option("--all-pipelines", "-P", help="All stages of the repository, not only of this directory.")
]


def status(
    context: typer.Context,
    names: _NamesArgument = None,
    everywhere: _EverywhereOption = False,
    as_json: JsonOption = False,
) -> None:
    """Tell which stages would run, and why. Exit 1 if any would."""
    facts = []
    pipeline = read_pipeline(Path.cwd())
    for state in pipelines.states(app_of(context), pipeline, names or (), everywhere=everywhere):
        facts.append({"stage": state.name, "is_frozen": state.is_frozen, "why": list(state.why)})
        if not as_json:
            say(f"{state.name}: {', '.join(state.why) or ('frozen' if state.is_frozen else 'up to date')}")
    if as_json:
        print_json(facts)
    if any(fact["why"] for fact in facts):
        raise typer.Exit(EXIT_DIFFERENT)


def repro(
    context: typer.Context,
    names: _NamesArgument = None,
    everywhere: _EverywhereOption = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, metavar="N", help="Stages that run at a time.")] = 1,
    force: Annotated[bool, typer.Option("--force", help="Run stages that have not changed, too.")] = False,
    no_run_cache: Annotated[
        bool, typer.Option("--no-run-cache", help="Run what has changed, even if its results are known.")
    ] = False,
    _json_errors: JsonErrorsOption = False,
) -> None:
    """Run the stages of dvc.yaml whose command, dependencies or parameters have changed, and note that in dvc.lock.

    The stages and files are those of DVC: what one of the two has run is up to date for the other.
    """
    pipeline = read_pipeline(Path.cwd())
    for number in (signal.SIGTERM, signal.SIGHUP):  # commands are in groups of their own: nothing else would end them
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    changed: list[Path] = []
    done = pipelines.repro(
        app_of(context),
        pipeline,
        names or (),
        everywhere=everywhere,
        jobs=jobs,
        force=force,
        use_run_cache=not no_run_cache,
        tell=_say_now,
        note_changed=changed.append,
    )
    ran, restored = sum(one.has_run for one in done), sum(one.entry is not None and not one.has_run for one in done)
    known = f"{restored:,} taken from the run cache, " if restored else ""
    note(f"{counted(ran, 'stage')} run, {known}{len(done) - ran - restored:,} not" if done else "There are no stages")
    if ran or restored or changed:
        stages = [pipeline.stages[one.name] for one in done if one.entry is not None]
        files = [home / name for home in sorted({stage.home for stage in stages}) for name in (PIPELINE, LOCK)]
        places = [stage.place(out.path) for stage in stages for out in stage.outs]
        pointers = {place.with_name(place.name + SUFFIX) for place in places}
        files += [*sorted(file for file in pointers if file.exists()), *changed]
        note(f"  To keep that in git: git add {shlex.join(os.path.relpath(file) for file in files)}")


def dag(names: _NamesArgument = None, everywhere: _EverywhereOption = False, as_json: JsonOption = False) -> None:
    """List the stages of dvc.yaml in the order in which they run, each with those it needs."""
    pipeline = read_pipeline(Path.cwd())
    if not names and not everywhere:
        require_here(pipeline)
    ordered = {name: pipeline.needed[name] for name in pipeline.in_order(names or (), everywhere=everywhere)}
    if as_json:
        print_json([{"stage": name, "needs": list(needed)} for name, needed in ordered.items()])
        return
    for name, needed in ordered.items():
        say(f"{name} <- {', '.join(needed)}" if needed else name)


def _say_now(line: str) -> None:
    """Print a line before what commands print."""
    say(line)
    sys.stdout.flush()
