"""mount, umount, mounts, stat, and the status of a mount."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from fusepkg.cli.options import JsonOption, RefArgument, app_of
from fusepkg.cli.output import (
    counted,
    human_bytes,
    note,
    print_json,
    print_table,
    progress_bar,
    say,
    short,
    time_text,
)
from fusepkg.daemon import control, records
from fusepkg.daemon.logs import log_to_terminal
from fusepkg.daemon.records import MountRecord
from fusepkg.daemon.request import Event, MountRequest, Ready, Step
from fusepkg.daemon.start import start_mount
from fusepkg.daemon.unmount import end_mount
from fusepkg.errors import EngineUnavailable, EntryNotFound, NoEntry, NotADirectory, UsageError
from fusepkg.model.reference import parse_reference

DirArgument = Annotated[Path, typer.Argument(metavar="DIR", help="A mounted directory.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(mount)
    app.command()(umount)
    app.command("mounts")(list_mounts)
    app.command()(stat)


def mount(
    context: typer.Context,
    ref: RefArgument,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="An empty directory.")],
    foreground: Annotated[bool, typer.Option("--foreground", "-f", help="Stay, and log to the terminal.")] = False,
    engine: Annotated[
        str, typer.Option(help="auto, erofs (root, Linux 6.12 or newer), or fuse (anyone).", metavar="ENGINE")
    ] = "auto",
    allow_other: Annotated[bool, typer.Option("--allow-other", help="Let other users read the mount too.")] = False,
) -> None:
    """Show a package as a read-only directory, at once; bytes are fetched when they are read."""
    if engine not in ("auto", "erofs", "fuse"):
        raise UsageError(f"there is no engine {engine!r}", hint="Engines are auto, erofs and fuse")
    request = MountRequest(parse_reference(ref), directory, app_of(context).settings, engine, allow_other)
    if foreground:
        _mount_here(request)
    else:
        _describe_mount(mount_behind(request))


def mount_behind(request: MountRequest) -> Ready:
    """Mount in the background; where the better engine cannot, with the other. Raises MountError."""
    try:
        return _mount_behind(request)
    except EngineUnavailable as exc:
        if request.engine != "auto" or "erofs" not in exc.message:
            raise
        note(f"{exc.message}; trying the fuse engine")
    return _mount_behind(replace(request, engine="fuse"))


def _mount_behind(request: MountRequest) -> Ready:
    # The bar has a thread of its own, so it may only be started once the daemon has been forked off.
    with start_mount(request) as starting, progress_bar() as show:
        return starting.follow(lambda step: show(step.what, step.done, step.total))


def _mount_here(request: MountRequest) -> None:
    from fusepkg.daemon.serve import run_mount

    log_to_terminal(debug=request.settings.debug)

    def announce(event: Event) -> None:
        if isinstance(event, Ready):
            _describe_mount(event)
        elif isinstance(event, Step) and not event.done:
            note(event.what)

    run_mount(request, "the terminal", announce)


def _describe_mount(ready: Ready) -> None:
    record = ready.record
    say(f"Mounted {record.reference} ({short(record.top_hash)}) at {record.mountpoint}")
    note(f"Engine: {record.engine} ({record.engine_reason})")
    if record.offline_since_s is not None:
        note(
            f"Warning: the bucket cannot be reached. {record.reference} was last seen to name this version at "
            f"{time_text(record.offline_since_s)}; it may have moved since"
        )
    if ready.warning:
        note(f"Warning: {ready.warning}")
    sys.stdout.flush()


def umount(
    context: typer.Context,
    directory: DirArgument,
    lazy: Annotated[
        bool, typer.Option("--lazy", help="Take it out of sight now; it ends when its last user is gone.")
    ] = False,
) -> None:
    """End a mount. Plain umount(8) does the same."""
    ended = end_mount(directory, lazy=lazy)
    note(f"Unmounted {ended.record.mountpoint if ended.record else directory}")
    if ended.still_served and ended.record:
        note(
            f"Its daemon (process {ended.record.pid}) goes on: the mount is in use elsewhere, or a fetch is still "
            "waiting for the bucket"
        )


def list_mounts(context: typer.Context, as_json: JsonOption = False) -> None:
    """List this user's mounts."""
    found = records.read_records()
    if as_json:
        print_json([msgspec.to_builtins(record) | {"alive": records.is_alive(record)} for record in found])
        return
    print_table(
        ("PACKAGE", "HASH", "DIRECTORY", "ENGINE", "STATE"),
        [
            (
                record.reference,
                short(record.top_hash),
                record.mountpoint,
                record.engine,
                _state(record),
            )
            for record in found
        ],
    )


def _state(record: MountRecord) -> str:
    if not records.is_alive(record):
        return "dead: umount it"
    return "mounted" if records.mounted_at(Path(record.mountpoint)) else "in use elsewhere"


def show_mount(record: MountRecord, as_json: bool) -> None:
    """What `status` prints of a mount: which package, and what it has fetched."""
    facts = control.ask(Path(record.socket), control.Question("status"))
    if as_json:
        print_json(msgspec.to_builtins(record) | facts)
        return
    counters = facts["counters"]
    say(f"Package: {record.reference} ({short(record.top_hash)})")
    say("No files have been changed")
    since = time_text(record.started_s)
    say(f"Mounted: {record.mountpoint}, {record.engine} engine, process {record.pid}, since {since}")
    say(f"Holds: {counted(facts['entries'], 'file')}, {human_bytes(facts['total_bytes'])}")
    say(f"Fetched: {counted(counters['fetched_objects'], 'object')}, {human_bytes(counters['fetched_bytes'])}")
    if counters["lower_objects"]:
        lower = counted(counters["lower_objects"], "object")
        say(f"Taken from the lower cache: {lower}, {human_bytes(counters['lower_bytes'])}")
    if counters["shared_objects"]:
        say(f"Fetched by other processes meanwhile: {counted(counters['shared_objects'], 'object')}")
    say(f"Served: {human_bytes(counters['served_bytes'])}; {counted(counters['cache_hits'], 'read')} from the cache")
    if counters["failed_fetches"] or counters["cache_failures"]:
        failed = counters["failed_fetches"], counters["cache_failures"]
        say("Failed fetches: {:,}; not kept in the cache: {:,}".format(*failed))
    if facts["cache_refusal"]:
        say(f"Cache: not in use: {facts['cache_refusal']}")
    if record.offline_since_s is not None:
        say(f"Offline: the tag was last seen to name this version at {time_text(record.offline_since_s)}")
    say(f"Log: {record.log}")


def stat(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A file in a mounted directory.")],
    as_json: JsonOption = False,
) -> None:
    """Tell an entry's hash, object, metadata, and whether it is cached."""
    record, inner = records.find_record(path)
    try:
        facts: dict[str, Any] = control.ask(Path(record.socket), control.Question("stat", inner))
    except (NoEntry, NotADirectory) as exc:
        raise EntryNotFound(
            f"{path} is not there: {record.reference} has no such entry", hint=f"`fusepkg ls {record.reference}`"
        ) from exc
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        say(f"{name.replace('_', ' ') + ':':<15} {value}")
