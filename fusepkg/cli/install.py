"""The command install, and the `status` of an installed directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusepkg.app.context import Context
from fusepkg.cli.mount import mount_behind
from fusepkg.cli.opening import open_package, picked_view
from fusepkg.cli.options import JsonOption, LayoutOption, RefArgument, TimesOption, WhereOption, app_of
from fusepkg.cli.output import counted, human_bytes, note, print_json, progress_bar, say, short, show_phase
from fusepkg.daemon.request import MountRequest
from fusepkg.errors import UsageError
from fusepkg.install.repair import find_changes, force_to_match, shown_key
from fusepkg.install.run import install as install_package
from fusepkg.model.reference import parse_reference
from fusepkg.model.times import check_times, one_time_s
from fusepkg.package.open import OpenedPackage

if TYPE_CHECKING:
    from fusepkg.index.opening import Index
    from fusepkg.install.run import InstallReport
    from fusepkg.state.install_record import Installed

_KEPT_NAMED = 10
"""Files of the user's that a message names before it counts the rest."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(context_settings={"allow_extra_args": True})(install)


def install(
    context: typer.Context,
    ref: RefArgument,
    location: Annotated[
        str, typer.Option(metavar="DIR", help="Where to; made if it is not there. Default: the package's name.")
    ] = "",
    lazy_download: Annotated[
        bool, typer.Option("--lazy-download", help="Mount it instead: files are fetched when they are read.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files changed there, and remove those it does not have.")
    ] = False,
    force_any_directory: Annotated[
        bool,
        typer.Option(
            "--force-any-directory", help="With --force: also where the first install did not find an empty directory."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --force: only tell what would be removed, replaced and fetched.")
    ] = False,
    outside_links: Annotated[
        bool,
        typer.Option(
            "--outside-links", help="Write symbolic links that lead out of the package so that they can be followed."
        ),
    ] = False,
    times: TimesOption = "content",
    where: WhereOption = "",
    layout: LayoutOption = "",
    as_json: JsonOption = False,
) -> None:
    """Bring a package into a directory: what is missing or out of date is fetched, verified, and put in its place."""
    app = app_of(context)
    reference = parse_reference(ref)
    _check_directory_is_an_option(ref, context.args)
    check_times(times)
    how = _How(force_any_directory, dry_run, outside_links, one_time_s(times))
    if (force_any_directory or dry_run) and not force:
        given = "--dry-run" if dry_run else "--force-any-directory"
        raise UsageError(f"{given} goes with --force", hint="Without --force nothing of yours is removed or replaced")
    view = None
    if where or layout:
        reference, view = picked_view(app, ref, where, layout)
    location = location or f"./{reference.name.rpartition('/')[2]}"
    directory = Path(location)
    if lazy_download:
        _say_where(ref, location, as_json)
        directory.mkdir(parents=True, exist_ok=True)
        ready = mount_behind(MountRequest(reference, directory, app.settings, times=times, view=view))
        if as_json:
            print_json({"reference": ref, "top_hash": ready.record.top_hash, "directory": ready.record.mountpoint})
        return
    opened = open_package(app, str(reference))
    _say_where(ref, location, as_json)
    if force:
        _force(app, opened, directory, location, how, as_json)
        return
    report = _bring(app, opened, directory, how)
    _describe(report, opened, directory, location, as_json)


def _check_directory_is_an_option(ref: str, others: list[str]) -> None:
    if others:
        raise UsageError(
            f"install takes the directory as an option, not as {others[0]!r} behind the reference",
            hint=f"fusepkg install {ref} --location {others[0]}",
        )


def _bring(app: Context, opened: OpenedPackage, directory: Path, how: _How) -> InstallReport:
    installed = opened.resolved.reference
    with progress_bar() as show:
        return install_package(
            opened.index,
            str(installed),
            directory,
            app.direct_reader(installed.bucket),
            app.settings.data_dir,
            outside_links=how.outside_links,
            time_s=how.time_s,
            progress=show_phase(show),
        )


def _say_where(ref: str, location: str, as_json: bool) -> None:
    if not as_json:
        say(f"Installing Package {ref} to {location.rstrip('/')}/...")


def _describe(report: InstallReport, opened: OpenedPackage, directory: Path, location: str, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "reference": str(opened.resolved.reference),
                "top_hash": opened.index.top_hash,
                "directory": str(directory.absolute()),
                "written": report.written,
                "written_bytes": report.written_bytes,
                "there": report.there,
                "kept": list(report.kept),
            }
        )
        return
    fetched = f"{counted(report.written, 'file')}, {human_bytes(report.written_bytes)}"
    note(f"Fetched {fetched}; {report.there:,} there already")
    if report.kept:
        named = [f"{location.rstrip('/')}/{key}" for key in report.kept[:_KEPT_NAMED]]
        more = len(report.kept) - len(named)
        note(f"Warning: changed here, and left as they are: {', '.join(named)}{f' and {more} more' if more else ''}")
        note("  Use --force to replace them")


@dataclass(frozen=True, slots=True)
class _How:
    """What the flags say; ``time_s`` is the one time of all files, None for that of their content."""

    any_directory: bool
    dry_run: bool
    outside_links: bool
    time_s: int | None


def _force(app: Context, opened: OpenedPackage, directory: Path, location: str, how: _How, as_json: bool) -> None:
    if not how.dry_run:
        directory.mkdir(parents=True, exist_ok=True)
    reference = opened.resolved.reference
    with progress_bar() as show:
        changes = force_to_match(
            opened.index,
            str(reference),
            directory,
            app.direct_reader(reference.bucket),
            app.settings.data_dir,
            any_directory=how.any_directory,
            dry_run=how.dry_run,
            outside_links=how.outside_links,
            time_s=how.time_s,
            progress=show_phase(show),
        )
    if as_json:
        print_json([{"logical_key": one.logical_key, "kind": one.kind.value, "source": one.source} for one in changes])
        return
    heading = "Nothing was changed. These changes would be made:" if how.dry_run else "Changes:"
    say(heading if changes else "No changes")
    for change in changes:
        say(f"  {location.rstrip('/')}/{change}")


# --- afterwards ----------------------------------------------------------------------------------------------


def index_of(app: Context, installed: Installed) -> Index:
    """Return the index of an installed version; no request if it is on this machine. Raises as ``open_package``."""
    package = parse_reference(installed.reference).package
    return open_package(app, f"{package}@{installed.top_hash}").index


def show_installed(app: Context, directory: Path, installed: Installed, as_json: bool) -> None:
    """Print the `status` of an installed directory: its package, and which files have changed."""
    changes = find_changes(index_of(app, installed), directory, app.settings.data_dir)
    if as_json:
        print_json(
            {
                "reference": installed.reference,
                "top_hash": installed.top_hash,
                "directory": str(directory.absolute()),
                "is_complete": installed.is_complete,
                "changes": [{"logical_key": shown_key(one), "kind": one.kind.value} for one in changes],
            }
        )
        return
    say(f"Package: {installed.reference} ({short(installed.top_hash)})")
    if not installed.is_complete:
        say("It was not installed to the end: install it again")
    if not changes:
        say("No files have been changed")
        return
    say(f"{counted(len(changes), 'file')} {'has' if len(changes) == 1 else 'have'} been changed:")
    for change in changes:
        say(f"  {change.kind.value:<7}  {shown_key(change)}")
