"""restart: put a new process, of the fusepkg that is installed now, in the place of a mount's."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from fusepkg.cli.options import JsonOption
from fusepkg.cli.output import note, print_json, say
from fusepkg.daemon import control, records
from fusepkg.daemon.records import MountRecord
from fusepkg.errors import DaemonNotRunning, FusepkgError, UsageError

_TIMEOUT_S = 60.0
"""Until the new process serves: it takes a second."""

_POLL_S = 0.05


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(restart)


def restart(
    context: typer.Context,
    directory: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="A mounted directory.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All mounts of this user.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Have a new process serve a mount, of the fusepkg that is installed now; readers only wait. Needs Linux 6.9.

    From then on the mount is supervised.
    """
    if (directory is not None) == every:
        raise UsageError("Name a mounted directory, or --all", hint="`fusepkg mounts` lists mounts")
    found = [records.find_record(directory)[0]] if directory else records.read_records()
    failures: list[FusepkgError] = []
    done = []
    for record in found:
        try:
            new = _restarted(record)
        except FusepkgError as exc:
            if directory is not None:
                raise
            note(f"{record.mountpoint}: {exc.message}")
            failures.append(exc)
            continue
        done.append({"mountpoint": record.mountpoint, "pid": new.pid, "pid_before": record.pid})
        if not as_json:
            say(f"Restarted {record.mountpoint}: process {new.pid} in the place of {record.pid}")
    if as_json:
        print_json(done)
    if failures:
        raise typer.Exit(failures[0].exit_code)


def _restarted(record: MountRecord) -> MountRecord:
    """Return the record that the new process has written."""
    control.ask(Path(record.socket), control.Question("restart"))
    deadline = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline:
        for now in records.read_records():
            if now.mount_id == record.mount_id and now.pid != record.pid:
                return now
        time.sleep(_POLL_S)
    raise DaemonNotRunning(
        f"no new process serves {record.mountpoint} after {_TIMEOUT_S:.0f} s", hint=f"Its log is {record.log}"
    )
