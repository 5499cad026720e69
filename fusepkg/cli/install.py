"""install: a package as an ordinary directory, and what is known of one afterwards.

Owns: what the command takes and prints, and the status of an installed directory. Must not know: how files are fetched
or compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from fusepkg_cache.errors import CacheError

from fusepkg.cli.mounts import mount_behind, mount_request
from fusepkg.cli.opening import opened_package
from fusepkg.cli.options import JsonOption, RefArgument, settings_of
from fusepkg.cli.output import counted, human_bytes, note, print_json, progress_bar, say, short, show_phase
from fusepkg.install.fetch import Origin
from fusepkg.install.repair import find_changes, force_to_match, shown_key
from fusepkg.install.run import install as install_package
from fusepkg.model.reference import parse_reference
from fusepkg.package.open import OpenedPackage
from fusepkg.registry.manifests import get_chunk_list
from fusepkg.settings import Settings
from fusepkg.store.opening import StoreSet, open_store

if TYPE_CHECKING:
    from fusepkg_cache import Cache
    from fusepkg_cache.digest import Digest

    from fusepkg.index.opening import Index
    from fusepkg.install.run import InstallReport
    from fusepkg.state.install_record import Installed

_KEPT_NAMED = 10
"""Files of the user's that a message names before it counts the rest."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(install)


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
    as_json: JsonOption = False,
) -> None:
    """Bring a package into a directory: what is missing or out of date is fetched, verified, and put in its place."""
    settings = settings_of(context)
    reference = parse_reference(ref)
    location = location or f"./{reference.name.rpartition('/')[2]}"
    directory = Path(location)
    if lazy_download:
        _say_where(ref, location, as_json)
        directory.mkdir(parents=True, exist_ok=True)
        ready = mount_behind(mount_request(settings, ref, directory))
        if as_json:
            print_json({"reference": ref, "top_hash": ready.record.top_hash, "directory": ready.record.mountpoint})
        return
    opened = opened_package(settings, ref)
    _say_where(ref, location, as_json)
    if force:
        _force(settings, opened, directory, location, as_json)
        return
    with _origin(settings, opened) as origin, progress_bar() as show:
        report = install_package(
            opened.index,
            str(opened.resolved.reference),
            directory,
            origin,
            settings.data_dir,
            progress=show_phase(show),
        )
    _describe(report, opened, directory, location, as_json)


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


def _force(settings: Settings, opened: OpenedPackage, directory: Path, location: str, as_json: bool) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with _origin(settings, opened) as origin, progress_bar() as show:
        changes = force_to_match(
            opened.index,
            str(opened.resolved.reference),
            directory,
            origin,
            settings.data_dir,
            progress=show_phase(show),
        )
    if as_json:
        print_json([{"logical_key": one.logical_key, "kind": one.kind.value, "source": one.source} for one in changes])
        return
    say("Changes:" if changes else "No changes")
    for change in changes:
        say(f"  {location.rstrip('/')}/{change}")


@contextmanager
def _origin(settings: Settings, opened: OpenedPackage) -> Iterator[Origin]:
    registry = open_store(opened.resolved.reference.bucket, settings.s3, settings.data_dir)

    def chunk_list(digest: Digest) -> list[bytes]:
        return get_chunk_list(registry, digest)

    with ExitStack() as stack:
        cache: Cache | None = None
        with suppress(CacheError):  # a cache that cannot be used has nothing
            cache = stack.enter_context(closing(settings.cache.open()))
        yield Origin(cache, StoreSet(settings.s3, settings.data_dir).for_key, chunk_list)


# --- afterwards ----------------------------------------------------------------------------------------------


def index_of(settings: Settings, installed: Installed) -> Index:
    """What was installed; without a request where its index is on this machine. Raises as ``opened_package``."""
    package = parse_reference(installed.reference).package
    return opened_package(settings, f"{package}@{installed.top_hash}").index


def show_installed(settings: Settings, directory: Path, installed: Installed, as_json: bool) -> None:
    """What `status` prints of an installed directory: which package, and what has been changed."""
    changes = find_changes(index_of(settings, installed), directory, settings.data_dir)
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
