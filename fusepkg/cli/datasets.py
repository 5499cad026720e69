"""datasets create-dataset, get-datasets, data-rows, upload-*, create-*, add-private-data, and what changes rows."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusepkg.cli.dataset_tasks import register_tasks
from fusepkg.cli.datasets_shown import RefArgument, TitleOption, print_rows, row_facts
from fusepkg.cli.options import JsonOption, settings_of
from fusepkg.cli.output import counted, note, print_json, print_table, progress_bar, say, show_phase
from fusepkg.errors import UsageError
from fusepkg.opened.contexts import use_flags

if TYPE_CHECKING:
    from fusepkg.datasets import Dataset, DatasetClient

EXIT_FAILED_LINES = 1
"""Some lines of private data could not be added, and were to be passed over."""

_Bucket = Annotated[str, typer.Argument(metavar="BUCKET", help="Where it lies; `local` is the embedded bucket.")]
_Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of this machine, in their order.")]
_Metadata = Annotated[
    str | None, typer.Option(metavar="JSON", help="Metadata of your own: an object of JSON.", show_default=False)
]
_Before = Annotated[str | None, typer.Option(metavar="TIME", help="2026-11-29 or 2026-11-29T03:00:00Z.")]
_Like = Annotated[str | None, typer.Option(metavar="PATTERN", help="As SQL's LIKE: `Validation%`.")]
_Equal = Annotated[str | None, typer.Option(metavar="TEXT", help="Exactly this.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    group = typer.Typer(no_args_is_help=True, help="Datasets of videos, pictures and DICOM series.")
    for command in (
        create_dataset, get_datasets, data_rows, upload_video, upload_image, create_image_group, create_dicom_series,
        add_private_data, get_cloud_integrations, update_data_row, delete_data, access_policy,
    ):  # fmt: skip
        group.command()(command)
    register_tasks(group)
    app.add_typer(group, name="datasets")


def create_dataset(
    context: typer.Context,
    bucket: _Bucket,
    title: Annotated[str, typer.Argument(metavar="TITLE", help="Any text.")],
    description: Annotated[str, typer.Option(metavar="TEXT", help="What it is for.")] = "",
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of its package, if not made from the title.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Create a dataset without data."""
    info = _client(context, bucket).create_dataset(title, None, description, name=name)
    if as_json:
        print_json(_plain(asdict(info)))
    else:
        say(f"Created {info.dataset_hash}")


def get_datasets(
    context: typer.Context,
    bucket: _Bucket,
    title_eq: _Equal = None,
    title_like: _Like = None,
    desc_eq: _Equal = None,
    desc_like: _Like = None,
    created_before: _Before = None,
    created_after: _Before = None,
    edited_before: _Before = None,
    edited_after: _Before = None,
    as_json: JsonOption = False,
) -> None:
    """List the datasets of a bucket, all or those that fit all that is said."""
    found = _client(context, bucket).get_datasets(
        title_eq, title_like, desc_eq, desc_like, created_before, created_after, edited_before, edited_after
    )
    if as_json:
        print_json([_plain(asdict(info)) for info in found])
        return
    print_table(
        ("dataset", "title", "description", "created", "edited"),
        [
            (
                one.dataset_hash,
                one.title,
                one.description,
                f"{one.created_at:%Y-%m-%d}",
                f"{one.last_edited_at:%Y-%m-%d}",
            )
            for one in found
        ],
    )


def data_rows(
    context: typer.Context,
    ref: RefArgument,
    title_eq: _Equal = None,
    title_like: _Like = None,
    created_before: _Before = None,
    created_after: _Before = None,
    data_type: Annotated[
        list[str] | None, typer.Option(metavar="TYPE", help="video, image, img_group or dicom; may be repeated.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the data rows of a dataset, or of an older version of it (REF@HASH)."""
    rows = dataset_of(context, ref).list_data_rows(
        title_eq=title_eq,
        title_like=title_like,
        created_before=created_before,
        created_after=created_after,
        data_types=data_type or None,
    )
    print_rows(rows, as_json=as_json)


def upload_video(
    context: typer.Context,
    ref: RefArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A video of this machine.")],
    title: TitleOption = None,
    client_metadata: _Metadata = None,
    as_json: JsonOption = False,
) -> None:
    """Add a video."""
    with progress_bar() as show:
        row = dataset_of(context, ref).upload_video(
            file, title, client_metadata=_object(client_metadata), progress=show_phase(show)
        )
    print_rows([row], as_json=as_json)


def upload_image(
    context: typer.Context,
    ref: RefArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A picture of this machine.")],
    title: TitleOption = None,
    client_metadata: _Metadata = None,
    as_json: JsonOption = False,
) -> None:
    """Add a single picture."""
    with progress_bar() as show:
        row = dataset_of(context, ref).upload_image(
            file, title, client_metadata=_object(client_metadata), progress=show_phase(show)
        )
    print_rows([row], as_json=as_json)


def create_image_group(
    context: typer.Context,
    ref: RefArgument,
    files: _Files,
    title: TitleOption = None,
    one_group: Annotated[
        bool, typer.Option("--one-group", help="One group whatever the resolutions are, not one for each.")
    ] = False,
    client_metadata: _Metadata = None,
    as_json: JsonOption = False,
) -> None:
    """Add pictures as groups, one for each resolution, in the order given."""
    with progress_bar() as show:
        rows = dataset_of(context, ref).create_image_group(
            files,
            title,
            create_video=not one_group,
            client_metadata=_object(client_metadata),
            progress=show_phase(show),
        )
    print_rows(rows, as_json=as_json)


def create_dicom_series(
    context: typer.Context,
    ref: RefArgument,
    files: _Files,
    title: TitleOption = None,
    client_metadata: _Metadata = None,
    as_json: JsonOption = False,
) -> None:
    """Add DICOM files as the series that they belong to."""
    with progress_bar() as show:
        rows = dataset_of(context, ref).create_dicom_series(
            files, title, client_metadata=_object(client_metadata), progress=show_phase(show)
        )
    print_rows(rows, as_json=as_json)


def add_private_data(
    context: typer.Context,
    ref: RefArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The private-cloud JSON.")],
    integration: Annotated[
        str | None, typer.Option(metavar="NAME", help="The AWS profile whose credentials read the data.")
    ] = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the objects into the dataset's bucket.")] = False,
    ignore_errors: Annotated[
        bool, typer.Option("--ignore-errors", help="Add the others where some lines fail; exit 1 then.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Add objects that lie in buckets. A repeat adds nothing twice."""
    with progress_bar() as show:
        answer = dataset_of(context, ref).add_private_data_to_dataset(
            integration, file, ignore_errors, copy=copy, progress=lambda done, total: show("Reading", done, total)
        )
    if as_json:
        print_json(_plain(asdict(answer)))
    else:
        if answer.dataset_data_list:
            print_table(("hash", "title"), [(one.data_hash, one.title) for one in answer.dataset_data_list])
        for line in answer.failed:
            note(f"Failed: {line.where} ({', '.join(line.urls)}): {line.reason}")
        there = f", {len(answer.already_there):,} there already" if answer.already_there else ""
        failed = f", {len(answer.failed):,} failed" if answer.failed else ""
        note(f"{counted(len(answer.dataset_data_list), 'row')} added{there}{failed}")
    if answer.failed:
        raise typer.Exit(EXIT_FAILED_LINES)


def get_cloud_integrations(context: typer.Context, bucket: _Bucket, as_json: JsonOption = False) -> None:
    """List the credentials that data can be added with: AWS profiles, those in use first."""
    found = _client(context, bucket).get_cloud_integrations()
    if as_json:
        print_json([asdict(one) for one in found])
        return
    for one in found:
        say(one.id)


def update_data_row(
    context: typer.Context,
    ref: RefArgument,
    data_hash: Annotated[str, typer.Argument(metavar="HASH", help="Of the row.")],
    title: TitleOption = None,
    client_metadata: _Metadata = None,
    as_json: JsonOption = False,
) -> None:
    """Give a row another title, or other metadata of your own."""
    if title is None and client_metadata is None:
        raise UsageError("nothing is to be changed", hint="Name --title or --client-metadata")
    row = dataset_of(context, ref).update_data_row(data_hash, title=title, client_metadata=_object(client_metadata))
    print_rows([row], as_json=as_json)


def delete_data(
    context: typer.Context,
    ref: RefArgument,
    data_hashes: Annotated[list[str], typer.Argument(metavar="HASH...", help="Of rows.")],
    as_json: JsonOption = False,
) -> None:
    """Take rows out of a dataset; their objects stay, for older versions name them."""
    deleted = dataset_of(context, ref).delete_data(data_hashes)
    if as_json:
        print_json(asdict(deleted))
        return
    for one in deleted.ignored:
        note(f"Ignored: {ref} has no row {one}")
    say(f"{counted(len(deleted.deleted), 'row')} deleted")


def access_policy(
    context: typer.Context,
    ref: RefArgument,
    write: Annotated[bool, typer.Option("--write", help="To change it too.")] = False,
    principal: Annotated[
        list[str] | None, typer.Option(metavar="ARN", help="Who may, if not everybody; may be repeated.")
    ] = None,
) -> None:
    """Print a bucket policy that lets others read a dataset, or change it. It goes to `aws s3api put-bucket-policy`."""
    say(json.dumps(dataset_of(context, ref).access_policy(write=write, principals=principal or ()), indent=2))


def dataset_of(context: typer.Context, ref: str) -> Dataset:
    """Return the dataset that a reference names."""
    from fusepkg.datasets import Dataset  # here: what only some users have, as below

    use_flags(settings_of(context).flags)
    return Dataset(ref)


def _client(context: typer.Context, bucket: str) -> DatasetClient:
    from fusepkg.datasets import DatasetClient

    use_flags(settings_of(context).flags)
    return DatasetClient(bucket)


def _object(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"the metadata are not JSON: {exc}", hint='Write {"camera": "left"}') from exc
    if not isinstance(found, dict):
        raise UsageError("the metadata are not an object of JSON", hint='Write {"camera": "left"}')
    return found


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    return row_facts(facts)
