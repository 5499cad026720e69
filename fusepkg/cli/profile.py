"""profile record, stop, show."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from fusepkg.cli.opening import open_package
from fusepkg.cli.options import DirArgument, JsonOption, RefArgument, app_of
from fusepkg.cli.output import counted, note, print_json, say, short, time_text
from fusepkg.daemon import control, records
from fusepkg.daemon.control import Question
from fusepkg.errors import ObjectMissing, UsageError
from fusepkg.fetch.replay import find_reads
from fusepkg.model.reference import parse_tag
from fusepkg.registry.profiles import get_profile, profile_names

if TYPE_CHECKING:
    from fusepkg.daemon.records import MountRecord

DEFAULT_NAME = "default"

_SHOWN = 20
"""Reads that are printed."""

NameOption = Annotated[str, typer.Option(metavar="NAME", help="The profile's name, of letters, digits, - and _.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    group = typer.Typer(no_args_is_help=True, help="The order in which a program reads, so that others fetch ahead.")
    group.command()(record)
    group.command()(stop)
    group.command()(show)
    app.add_typer(group, name="profile")


def record(
    context: typer.Context, directory: DirArgument, name: NameOption = DEFAULT_NAME, as_json: JsonOption = False
) -> None:
    """Note from now on what is read at a mount for the first time, until `profile stop`."""
    mounted = _mount_at(directory)
    if mounted.view is not None:
        raise UsageError(f"{mounted.mountpoint} shows a view, which has no profiles", hint="Mount the package itself")
    facts = control.ask(Path(mounted.socket), Question("profile_record", parse_tag(name)))
    if as_json:
        print_json({"mountpoint": mounted.mountpoint, **facts})
    else:
        note(f"Recording {name}: `fusepkg profile stop {mounted.mountpoint}` writes it beside {mounted.reference}")


def stop(
    context: typer.Context,
    directory: DirArgument,
    drop: Annotated[bool, typer.Option("--drop", help="Write nothing: forget what was recorded.")] = False,
    as_json: JsonOption = False,
) -> None:
    """End a recording, and put the profile into the bucket, in place of the one of that name."""
    mounted = _mount_at(directory)
    facts = control.ask(Path(mounted.socket), Question("profile_drop" if drop else "profile_stop"))
    if as_json:
        print_json({"mountpoint": mounted.mountpoint, **facts})
        return
    reads = counted(facts["reads"], "first read")
    if drop:
        note(f"Forgot the profile {facts['name']} and its {reads}")
        return
    note(f"Wrote the profile {facts['name']}: {reads}; `fusepkg mount ... --replay {facts['name']}` fetches by it")
    if facts["is_cut"]:
        note(f"The program read more: a profile holds the first {facts['most_reads']:,}")


def show(
    context: typer.Context, ref: RefArgument, name: NameOption = DEFAULT_NAME, as_json: JsonOption = False
) -> None:
    """Tell what a profile of a package holds, and how much of it the version REF has."""
    app = app_of(context)
    opened = open_package(app, ref)
    reference, entries = opened.resolved.reference, opened.index.entries
    store = app.store(reference.bucket)
    try:
        profile = get_profile(store, reference.name, parse_tag(name))
    except ObjectMissing as exc:
        known = ", ".join(profile_names(store, reference.name))
        raise ObjectMissing(exc.message, hint=f"There are: {known}" if known else exc.hint) from exc
    header = profile.header
    missing = find_reads(entries, profile.reads())[1]
    first = list(islice(profile.reads(), None if as_json else _SHOWN))
    if as_json:
        facts = {"reference": str(reference), "name": name, "missing": missing, **msgspec.to_builtins(header)}
        print_json(facts | {"first_reads": [msgspec.structs.asdict(read) for read in first]})
        return
    say(f"Profile: {name} of {reference.package}, read from version {short(header.top_hash)}")
    say(f"Recorded: {time_text(header.recorded_s)}, for {header.seconds:,.1f} s")
    say(f"Holds: {counted(header.reads, 'first read')}, {missing:,} of them of files that {reference} does not have")
    for read in first:
        say(f"{read.at / 1000:>10.3f} s  {read.path}" + (f" from byte {read.offset:,}" if read.offset else ""))
    if header.reads > len(first):
        say(f"and {header.reads - len(first):,} more; --json prints all")


def _mount_at(directory: Path) -> MountRecord:
    mounted, inner = records.find_record(directory)
    if inner != ".":
        raise UsageError(f"{directory} lies inside the mount {mounted.mountpoint}", hint="Name the mount's directory")
    return mounted
