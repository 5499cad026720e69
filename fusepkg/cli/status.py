"""The command status: whether a package is mounted, installed or being made in a directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fusepkg.cli.mounts_shown import show_mount, show_unrecorded
from fusepkg.cli.options import JsonOption, app_of
from fusepkg.daemon import records
from fusepkg.errors import DaemonNotRunning, NotMounted


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
    """Tell which package is mounted or installed in a directory, or what the one being made there holds.

    In a git repository that tracks data: whether its directories are what they are to be, and pushed.
    """
    looked_at = directory or Path.cwd()
    try:
        record, _ = records.find_record(looked_at)
    except DaemonNotRunning:
        unrecorded = records.find_unrecorded(looked_at)
        if unrecorded is None:
            raise
        show_unrecorded(unrecorded, as_json)
    except NotMounted:
        _show_unmounted(context, directory, looked_at, as_json)
    else:
        show_mount(record, as_json)


def _show_unmounted(context: typer.Context, directory: Path | None, looked_at: Path, as_json: bool) -> None:
    # Loaded here, so that the status of a mount comes at once.
    from fusepkg.cli.builder_state import find_directory, require_directory
    from fusepkg.cli.builder_status import show_builder
    from fusepkg.cli.install import show_installed
    from fusepkg.state.install_record import installed_at

    app = app_of(context)
    installed = installed_at(app.settings.data_dir, looked_at)
    if installed is not None:
        show_installed(app, looked_at, installed, as_json)
        return
    builder = find_directory(directory or Path.cwd())
    if builder is None and directory is None:
        from fusepkg.cli.gitdata import show_tracked
        from fusepkg.gitdata.worktree import Worktree

        worktree = Worktree.find(looked_at)
        if worktree is not None:
            show_tracked(context, worktree, as_json=as_json)
            return
        builder = require_directory(Path.cwd())
    if builder is None:
        raise NotMounted(
            f"no package is mounted, installed or made in {looked_at}", hint="`fusepkg mounts` lists what is mounted"
        )
    show_builder(builder, as_json)
