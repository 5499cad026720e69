"""The command image: a version as one file that the kernel mounts by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fusepkg.cli.opening import open_package
from fusepkg.cli.options import JsonOption, RefArgument, app_of
from fusepkg.cli.output import human_bytes, note, print_json, progress_bar, say, short, show_phase
from fusepkg.errors import DigestMismatch

_NAMED = 10
"""Damaged files that a message names before it counts the rest."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(image)


def image(
    context: typer.Context,
    ref: RefArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, such as trees.erofs.")],
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing: compare all bytes of a file that is there.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a version as one disk image (EROFS), which Linux mounts without fusepkg: mount -t erofs FILE DIR."""
    from fusepkg.disk_image.write import find_damage, write_disk_image

    app = app_of(context)
    opened = open_package(app, ref)
    reference, index = opened.resolved.reference, opened.index
    if check:
        with progress_bar() as show:
            damaged = find_damage(index, file, progress=show_phase(show))
        if damaged:
            more = f" and {len(damaged) - _NAMED:,} more" if len(damaged) > _NAMED else ""
            raise DigestMismatch(
                f"{file} has wrong bytes in {', '.join(damaged[:_NAMED])}{more}",
                hint="Write it again under another name; this disk may be failing",
            )
        size = file.stat().st_size
    else:
        with progress_bar() as show:
            size = write_disk_image(index, app.blocking_reader(reference.bucket), file, progress=show_phase(show))
    if as_json:
        print_json(
            {"reference": str(reference), "top_hash": index.top_hash, "file": str(file.absolute()), "size": size}
        )
        return
    if check:
        say(f"{file} is {reference} ({short(index.top_hash)}), all bytes are right")
        return
    say(f"Wrote {reference} ({short(index.top_hash)}) to {file}, {human_bytes(size)}")
    note(f"Mount it with: mount -t erofs {file} DIR")
