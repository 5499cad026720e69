"""status: what a directory is, whether a package is mounted, installed or being made there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from fusepkg.cli.builder import PACKAGE_KEY
from fusepkg.cli.builder_draft import reference_of
from fusepkg.cli.builder_state import SetMeta, find_directory, read_state, require_directory
from fusepkg.cli.install import show_installed
from fusepkg.cli.mounts import show_mount
from fusepkg.cli.options import JsonOption, app_of
from fusepkg.cli.output import print_json, say, short
from fusepkg.daemon import records
from fusepkg.errors import NotMounted
from fusepkg.state.install_record import installed_at


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(status)


def status(
    context: typer.Context,
    directory: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="Where a package is mounted, installed or being made; default: here."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell which package is mounted or installed in a directory, or what the one being made there holds."""
    app, looked_at = app_of(context), directory or Path.cwd()
    try:
        record, _ = records.find_record(looked_at)
    except NotMounted:
        installed = installed_at(app.settings.data_dir, looked_at)
        if installed is not None:
            show_installed(app, looked_at, installed, as_json)
            return
        builder = require_directory(Path.cwd()) if directory is None else find_directory(directory)
        if builder is None:
            raise NotMounted(
                f"no package is mounted, installed or made in {looked_at}",
                hint="`fusepkg mounts` lists what is mounted",
            ) from None
        _show_builder(builder, as_json)
        return
    show_mount(record, as_json)


def _show_builder(directory: Path, as_json: bool) -> None:
    if as_json:
        print_json(_builder_facts(directory))
        return
    state = read_state(directory)
    header, reference = state.header, reference_of(state)
    if header.base is not None and state.is_pushed:
        named = f"{reference.package}:{header.tag} ({short(header.base)})" if header.tag else ""
        say(f"Package: {named or f'{reference.package}@{short(header.base)}'}")
        say("Data matches manifest")
        return
    say(f"PackageBuilder: {reference.package} ({short(header.built) if header.built else 'pre-manifest'})")
    items = state.items
    say("")
    if not items:
        say("No data yet: fusepkg add PATH")
        return
    say("Data:")
    width = max(len(item.key) for item in items) + 4
    for item in items:
        say(f"  {item.key or './':<{width}}->  {item.source}")
    changed = list(dict.fromkeys(change.key for change in state.changes if isinstance(change, SetMeta)))
    if changed:
        say("")
        say("Metadata set:")
        for key in changed:
            say(f"  {key or PACKAGE_KEY}")


def _builder_facts(directory: Path) -> dict[str, object]:
    state = read_state(directory)
    header = state.header
    return {
        "builder": header.builder,
        "directory": str(directory),
        "base": header.base,
        "tag": header.tag,
        "top_hash": header.base if state.is_pushed else header.built,
        "pushed": state.is_pushed,
        "items": [{"logical_key": item.key, "source": item.source} for item in state.items],
        "changes": [msgspec.to_builtins(change) for change in state.changes],
    }
