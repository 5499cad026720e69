"""push: publish a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fusepkg.cli.options import (
    BlockHashesOption,
    CheckOption,
    JsonOption,
    NoWorkflowOption,
    PacksOption,
    SymlinksOption,
    WorkflowOption,
    app_of,
    chosen_workflow,
)
from fusepkg.cli.output import progress_bar, show_phase
from fusepkg.cli.push_shown import show_pushed
from fusepkg.errors import UsageError
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.model.reference import Reference, parse_reference
from fusepkg.package.open import forget_index
from fusepkg.publish.folder import parse_symlinks
from fusepkg.publish.push import push_folder
from fusepkg.publish.targets import parse_format
from fusepkg.registry.layout import manifest_key
from fusepkg.state.damage import damaged_objects, forget_damaged


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(push)


def push(
    context: typer.Context,
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="The folder to publish; without it, all tracked data in git.")
    ] = None,
    ref: Annotated[str, typer.Argument(metavar="[REF]", help="The package: bucket/name:tag.")] = "",
    prefix: Annotated[
        str | None, typer.Option(metavar="PREFIX", help="Where in the bucket data go; default: the package's name.")
    ] = None,
    message: Annotated[
        str | None, typer.Option("--message", "-m", metavar="TEXT", help="Why, for `log`; part of the version.")
    ] = None,
    meta: Annotated[str | None, typer.Option(metavar="JSON", help="Metadata of the package, a JSON object.")] = None,
    symlinks: SymlinksOption = "refuse",
    follow_symlinks: Annotated[bool, typer.Option("--follow-symlinks", help="The same as --symlinks follow.")] = False,
    registry_format: Annotated[
        str,
        typer.Option(metavar="FORMAT", help="`fusepkg`, or `quilt3` to publish where quilt3 looks for packages."),
    ] = "fusepkg",
    check: CheckOption = False,
    packs: PacksOption = None,
    workflow: WorkflowOption = None,
    no_workflow: NoWorkflowOption = False,
    block_hashes: BlockHashesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a folder as a version of a package, and make the tag name it. Overwrites nothing.

    Without a folder, in a git repository: send the data that `track` has made versions of to its registry.
    """
    if directory is None:
        _push_tracked(context, as_json)
        return
    app, reference = app_of(context), _reference(directory, ref)
    store = app.store(reference.bucket)
    with progress_bar() as show:
        pushed = push_folder(
            directory,
            reference,
            app.stores,
            prefix=prefix,
            message=message,
            user_meta=_meta(meta),
            symlinks=parse_symlinks("follow" if follow_symlinks else symlinks),
            registry_format=registry_format,
            check=check,
            packs=packs,
            workflow=chosen_workflow(workflow, no_workflow),
            block_hashes=block_hashes,
            suspects=damaged_objects(app.settings.data_dir),
            hints=app.hints,
            progress=show_phase(show),
        )
    forget_damaged(app.settings.data_dir, pushed.intact)
    if pushed.manifest.is_news:
        forget_index(app.settings.indexes_dir, store, reference.name, pushed.top_hash)
    key = manifest_key(reference.name, pushed.top_hash, parse_format(registry_format))
    show_pushed(pushed, parse_physical_key(store.url(key)), as_json)


def _push_tracked(context: typer.Context, as_json: bool) -> None:
    from fusepkg.cli.gitdata import push_tracked  # here, so that the usual push loads nothing of git

    push_tracked(context, as_json=as_json)


def _reference(directory: Path, ref: str) -> Reference:
    if not ref:
        raise UsageError(f"{directory} is to be pushed as what?", hint=f"fusepkg push {directory} bucket/name:tag")
    return parse_reference(ref)


_META_EXAMPLE = 'For example --meta \'{"source": "camera 7"}\''


def _meta(text: str | None) -> dict[str, object] | None:
    if text is None:
        return None
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"--meta is not JSON: {exc}", hint=_META_EXAMPLE) from exc
    if not isinstance(meta, dict):
        raise UsageError("--meta must be a JSON object", hint=_META_EXAMPLE)
    return meta
