"""tasks list, show, run, cancel."""

from __future__ import annotations

import json
import shlex
import signal
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusepkg.cli.options import JsonOption, app_of, settings_of
from fusepkg.cli.output import counted, note, print_json, print_table, say
from fusepkg.cli.task_kinds import check_wanted, handlers, is_wanted
from fusepkg.errors import TaskError, UsageError
from fusepkg.model.reference import parse_bucket
from fusepkg.opened.contexts import current_context, use_flags
from fusepkg.tasks.lease import LEASE_S
from fusepkg.tasks.task import Status, cancel, list_tasks, read_task
from fusepkg.tasks.work import run_all, run_task

if TYPE_CHECKING:
    from fusepkg.app.context import Context
    from fusepkg.store.protocol import ObjectStore
    from fusepkg.tasks.task import Task

_LISTED = 100

_Bucket = Annotated[str, typer.Argument(metavar="BUCKET", help="Where the tasks lie; `local` is the embedded bucket.")]
_Number = Annotated[int, typer.Argument(metavar="TASK", help="The number of a task.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    group = typer.Typer(no_args_is_help=True, help="Work that outlasts a command: list, run, cancel.")
    group.command(name="list")(list_)
    group.command()(show)
    group.command()(run)
    group.command(name="cancel")(cancel_)
    app.add_typer(group, name="tasks")


def list_(
    context: typer.Context,
    bucket: _Bucket,
    limit: Annotated[int, typer.Option(metavar="N", help="At most so many, the newest.", min=1)] = _LISTED,
    as_json: JsonOption = False,
) -> None:
    """List the tasks of a bucket, newest first."""
    found = list_tasks(_store(app_of(context), bucket), limit=limit)
    if as_json:
        print_json([facts_of(task) for task in found])
        return
    rows = [(str(task.number), task.status, task.kind, task.about, task.submitted, _last_word(task)) for task in found]
    print_table(("task", "status", "kind", "package", "submitted", ""), rows)


def show(context: typer.Context, bucket: _Bucket, number: _Number, as_json: JsonOption = False) -> None:
    """Tell how a task stands, what it was to do, and what came of it."""
    task = read_task(_store(app_of(context), bucket), number)
    if as_json:
        print_json(facts_of(task))
        return
    say(f"Task {task.number}: {task.status}")
    say(f"What: {task.kind} {task.about}".rstrip())
    if isinstance(words := task.parameters.get("command"), list):
        say(f"Command: {shlex.join(map(str, words))}")
    say(f"Submitted: {task.submitted} by {task.submitted_by}")
    say(f"Last heard of: {task.changed} by {task.changed_by}")
    if task.attempt > 1:
        say(f"Workers so far: {task.attempt}")
    if word := _last_word(task):
        say(f"Says: {word}")
    for one in task.result if isinstance(task.result, list) else [task.result] * (task.result is not None):
        say(f"Result: {one if isinstance(one, str) else json.dumps(one, ensure_ascii=False)}")


def run(
    context: typer.Context,
    bucket: _Bucket,
    number: Annotated[
        int | None, typer.Argument(metavar="[TASK]", help="Its number; without it all that wait.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on, and do what is submitted later.")] = False,
    lease: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long this worker may be silent before another takes over.")
    ] = LEASE_S,
    command: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Also do transforms that run this very command. May be repeated."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Do a task, or all that nobody works on. Takes over those whose worker has fallen silent.

    A task that fails says so in its status. With a number, the command ends as the task does.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the task is given back at once, as with Ctrl-C
    use_flags(settings_of(context).flags)
    store, commands = _store(current_context(), bucket), [_words(text) for text in command or ()]
    does = handlers(commands)
    if number is None:
        done = run_all(
            store,
            does,
            lease_s=lease,
            follow=follow,
            wants=lambda task: is_wanted(task, commands),
            report=_report,
            waits=_note_wait,
        )
        note(counted(done, "task") + " done")
        return
    check_wanted(read_task(store, number), commands)
    task = run_task(store, number, does, lease_s=lease, waits=_note_wait)
    if as_json:
        print_json(facts_of(task))
    else:
        _report(task)
    if task.status is not Status.DONE:
        raise TaskError(f"task {number}: {task.reason}")


def cancel_(context: typer.Context, bucket: _Bucket, number: _Number) -> None:
    """End a task; a worker that is at it stops."""
    task = cancel(_store(app_of(context), bucket), number)
    say(f"Task {number}: {task.status}")
    if task.status is not Status.CANCELLED:
        note("It was over already")


def facts_of(task: Task) -> dict[str, Any]:
    """Return a task as JSON shows it, without what is only for workers."""
    return {name: value for name, value in asdict(task).items() if name not in ("worker", "record")}


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as exc:
        raise UsageError(f"the command {command!r} cannot be read: {exc}", hint="Quote it as for a shell") from exc
    if not words:
        raise UsageError("the command is empty", hint="Write it as `fusepkg tasks show` tells it")
    return words


def _store(app: Context, bucket: str) -> ObjectStore:
    return app.store(parse_bucket(bucket))


def _last_word(task: Task) -> str:
    return task.reason or task.progress


def _report(task: Task) -> None:
    word = _last_word(task)
    say(f"Task {task.number}: {task.status}" + (f": {word}" if word else ""))


def _note_wait(task: Task) -> None:
    note(f"Task {task.number} is being done by {task.changed_by}; it is taken over after {task.lease_s:g} s of silence")
