"""The command prefetch: fetch files of a mount before they are read."""

from __future__ import annotations

import time
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer

from fusepkg.cli.options import DirArgument, JsonOption, RateOption, parse_rate
from fusepkg.cli.output import counted, human_bytes, note, print_json, progress_bar
from fusepkg.daemon import control, records
from fusepkg.daemon.control import Question
from fusepkg.model.reported_error import error_from_code

if TYPE_CHECKING:
    from typing import Any

    from fusepkg.cli.output import ShowProgress
    from fusepkg.daemon.records import MountRecord

_ASK_EVERY_S = 0.2


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(prefetch)


def prefetch(
    context: typer.Context,
    directory: DirArgument,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH]...", help="Files and directories in it; default: all of it.")
    ] = None,
    rate: RateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch files of a mount into the cache before they are read, behind all that is being read."""
    bytes_per_s = parse_rate(rate, "--rate")
    record, inner = records.find_record(directory)
    wanted = tuple(str(PurePosixPath(inner) / path) for path in paths or (".",))
    with progress_bar() as show:
        facts = _follow(record, Question("prefetch", paths=wanted, rate=bytes_per_s or 0), show)
    if as_json:
        print_json({"mountpoint": record.mountpoint, **facts})
    else:
        _describe(facts)
    if facts["error"] is not None:
        raise error_from_code(facts["error"]["code"], facts["error"]["message"], "")


def _follow(record: MountRecord, question: Question, show: ShowProgress) -> dict[str, Any]:
    """Start a prefetch, and come back when it has ended. An interrupt ends it."""
    socket = Path(record.socket)
    facts = control.ask(socket, question)
    number = facts["number"]
    try:
        while not facts["is_done"]:
            show("Prefetching", facts["bytes"], facts["total_bytes"], is_bytes=True)
            time.sleep(_ASK_EVERY_S)
            facts = control.ask(socket, Question("prefetch_progress", number=number))
    except KeyboardInterrupt:
        control.ask(socket, Question("prefetch_stop", number=number))
        raise
    return facts


def _describe(facts: dict[str, Any]) -> None:
    files, size = counted(facts["files"], "file"), human_bytes(facts["bytes"])
    note(f"{files}, {size}: fetched {human_bytes(facts['fetched_bytes'])}; the rest was there")
    if facts["failed_files"]:
        note(f"{counted(facts['failed_files'], 'file')} could not be fetched")
