"""datasets re-encode-data, re-encode-data-status."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from fusepkg.cli.datasets_shown import RefArgument
from fusepkg.cli.options import JsonOption, settings_of
from fusepkg.cli.output import note, print_json, say
from fusepkg.opened.contexts import use_flags


def register_tasks(group: typer.Typer) -> None:
    """Add these commands."""
    group.command()(re_encode_data)
    group.command()(re_encode_data_status)


def re_encode_data(
    context: typer.Context,
    ref: RefArgument,
    data_hashes: Annotated[list[str], typer.Argument(metavar="HASH...", help="Of videos.")],
    no_start: Annotated[
        bool, typer.Option("--no-start", help="Only submit it: a worker elsewhere does it (`tasks run`).")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Submit a task that encodes videos again, with a constant frame rate, and print its number.

    It goes on when this command ends.
    """
    from fusepkg.datasets import Dataset, DataType

    use_flags(settings_of(context).flags)
    dataset = Dataset(ref)
    videos = {row.uid for row in dataset.list_data_rows(data_types=[DataType.VIDEO])}
    number = dataset.re_encode_data(data_hashes, start=not no_start)
    for one in data_hashes:
        if one not in videos:
            note(f"Ignored: {ref} has no video {one}")
    if as_json:
        print_json({"task": number})
    else:
        say(str(number))


def re_encode_data_status(
    context: typer.Context,
    ref: RefArgument,
    task: Annotated[int, typer.Argument(metavar="TASK", help="Its number.")],
    as_json: JsonOption = False,
) -> None:
    """Tell how such a task stands: SUBMITTED, DONE with where the videos lie, or ERROR with the reason."""
    from fusepkg.datasets import Dataset

    use_flags(settings_of(context).flags)
    found = Dataset(ref).re_encode_data_status(task)
    if as_json:
        print_json(asdict(found))
        return
    say(found.status + (f": {found.reason}" if found.reason else ""))
    for one in found.result or ():
        say(f"{one.data_hash}  {one.bucket_path}")
        say(f"  {one.signed_url}")
