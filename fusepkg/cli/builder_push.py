"""The commands build-manifest, push-data and push-manifest.

What `push-data` has placed is kept as an index in the data directory, so that `push-manifest` looks at no data. It may
be lost: then the data are pushed again, which sends nothing that is there.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from types import EllipsisType
from typing import Annotated

import typer

from fusepkg.cli.builder import Builder, opened_builder
from fusepkg.cli.builder_draft import draft_of_version, reference_of, shown_items
from fusepkg.cli.builder_state import FORMAT, BuilderHeader, BuilderState
from fusepkg.cli.options import (
    CheckOption,
    JsonErrorsOption,
    NoWorkflowOption,
    WorkflowOption,
    app_of,
    chosen_workflow,
)
from fusepkg.cli.output import note, progress_bar, say, short, show_phase
from fusepkg.cli.versions import describe_move, link_tag
from fusepkg.errors import FileChanged, LocalFilesRemain
from fusepkg.index.build import build_index
from fusepkg.index.opening import Index, open_index
from fusepkg.model.reference import Reference, parse_tag
from fusepkg.package.open import forget_index
from fusepkg.publish import push_manifest as publish_manifest
from fusepkg.publish.draft.draft import Draft
from fusepkg.publish.manifest import build_manifest, write_manifest
from fusepkg.publish.packs import push_packs
from fusepkg.publish.upload import data as publish_data
from fusepkg.registry.manifests import ManifestPut
from fusepkg.registry.tags import tag_conflict, tag_history
from fusepkg.state.damage import damaged_objects
from fusepkg.store.protocol import ObjectStore

_FOLDER = "builder"
"""Name below the data directory."""

_NAME_DIGITS = 16
"""Hex digits of the hash that tells the builders of a machine apart."""

MessageOption = Annotated[
    str | None, typer.Option("--message", "-m", metavar="TEXT", help="Why, for `log`; part of the version.")
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("build-manifest")(build)
    app.command("push-data")(push_data)
    app.command("push-manifest")(push_manifest)


def build(context: typer.Context, message: MessageOption = None, _json_errors: JsonErrorsOption = False) -> None:
    """Hash what the version holds, and tell the top hash it will have."""
    with opened_builder(app_of(context)) as builder:
        state = builder.state if message is None else builder.state.with_header(message=message)
        say("Building manifest...")
        with progress_bar() as show:
            draft = builder.draft(state)
            top_hash = build_manifest(draft, hints=builder.app.hints, progress=show_phase(show))
        if top_hash != state.header.pushed:
            state = BuilderState(state.header, state.changes, shown_items(draft)).with_header(pushed=None)
        builder.save(state.with_header(built=top_hash))
        say(f"Tophash: {top_hash}")


def push_data(
    context: typer.Context,
    prefix: Annotated[
        str | None,
        typer.Option(
            metavar="PREFIX",
            help="Where in the bucket data go; default: the package's name, and what the bucket has stays.",
        ),
    ] = None,
    local_files_only: Annotated[
        bool, typer.Option("--local-files-only", help="Leave objects of buckets where they are.")
    ] = False,
    check: CheckOption = False,
    _json_errors: JsonErrorsOption = False,
) -> None:
    """Upload local files, and copy objects that lie elsewhere. Overwrites nothing."""
    with opened_builder(app_of(context)) as builder, progress_bar() as show:
        draft = builder.draft()
        _require_as_built(builder.state, build_manifest(draft, hints=builder.app.hints, progress=show_phase(show)))
        publish_data.push_data(
            draft,
            prefix,
            local_files_only=local_files_only,
            check=check,
            suspects=damaged_objects(builder.app.settings.data_dir),
            hints=builder.app.hints,
            progress=show_phase(show),
            report=lambda pushed: say(str(pushed)),
        )
        top_hash = build_manifest(draft, hints=builder.app.hints)
        for warning in push_packs(draft, check=check, progress=show_phase(show)).warnings:
            note(f"Warning: {warning}")
        _keep(builder, draft, top_hash)
        state = BuilderState(builder.state.header, builder.state.changes, shown_items(draft))
        builder.save(state.with_header(pushed=top_hash))


def push_manifest(
    context: typer.Context,
    tag: Annotated[str | None, typer.Option("--tag", "-t", metavar="TAG", help="Make this tag name it.")] = None,
    message: MessageOption = None,
    force_allow_local_files: Annotated[
        bool,
        typer.Option("--force-allow-local-files", help="Publish it although it names files of this machine alone."),
    ] = False,
    workflow: WorkflowOption = None,
    no_workflow: NoWorkflowOption = False,
    _json_errors: JsonErrorsOption = False,
) -> None:
    """Publish the version: its manifest, then the tag. The manifest is built if that was not done."""
    if tag is not None:
        parse_tag(tag)
    with opened_builder(app_of(context)) as builder:
        if builder.state.is_pushed:
            _push_again(builder, tag)
        else:
            chosen = chosen_workflow(workflow, no_workflow)
            _publish(builder, tag, message, chosen, allow_local_files=force_allow_local_files)


def _push_again(builder: Builder, tag: str | None) -> None:
    """Move the tag only: the version is unchanged since the last push."""
    header, reference = builder.state.header, reference_of(builder.state)
    assert header.base is not None, "it has been pushed"
    if tag is None:
        say(f"{reference.package}@{short(header.base)} is pushed already")
        return
    store = builder.app.store(reference.bucket)
    target = replace(reference, tag=tag)
    if tag == header.tag:
        _require_not_moved(store, target, header.base)
    describe_move(target, *link_tag(store, target, header.base))
    builder.save(builder.state.with_header(tag=tag))


def _require_not_moved(store: ObjectStore, target: Reference, top_hash: str) -> None:
    """Raise TagConflict if the tag named this version and another publisher has moved it since."""
    newest = tag_history(store, target.name, target.tag, limit=1)
    if newest and newest[0].top_hash != top_hash:
        raise tag_conflict(target.name, target.tag, top_hash, newest)


def _publish(
    builder: Builder,
    tag: str | None,
    message: str | None,
    workflow: str | EllipsisType | None,
    *,
    allow_local_files: bool,
) -> None:
    state = builder.state
    placed = _kept(builder)
    with progress_bar() as show:
        draft = builder.draft() if placed is None else draft_of_version(builder.app, state, placed)
        if draft.has_local_files() and not allow_local_files:
            raise LocalFilesRemain(
                "Manifest contains pointers to local files",
                hint="Use push-data to first push those files to s3 or --force-allow-local-files if this is "
                "intentional",
            )
        if state.header.built is not None:
            _require_as_built(state, build_manifest(draft, hints=builder.app.hints, progress=show_phase(show)))
        if message is not None:
            draft.message = message
        top_hash = publish_manifest.push_manifest(
            draft,
            tag,
            allow_local_files=True,
            workflow=workflow,
            suspects=damaged_objects(builder.app.settings.data_dir),
            hints=builder.app.hints,
            progress=show_phase(show),
            report=_report,
            keep=lambda _manifest, put: _forget_index(builder, draft, put),
        )
    if draft.has_local_files() and draft.reference.bucket.scheme == "s3":
        # A manifest in a bucket may not name local files, so no other version can start from this one.
        builder.save(state.with_header(built=top_hash, message=draft.message))
        note("Warning: this version names files of this machine, and fusepkg reads none that a bucket names")
        note("  For one that can be read: push-data, then push-manifest")
        return
    items = shown_items(draft) if placed is None else state.items
    builder.save(BuilderState(BuilderHeader(state.header.builder, FORMAT, base=top_hash, tag=tag), items=items))
    shutil.rmtree(_kept_root(builder), ignore_errors=True)
    if tag is None:
        note(f"No tag names it: fusepkg tag {reference_of(state).package}@{short(top_hash)} TAG")


def _forget_index(builder: Builder, draft: Draft, put: ManifestPut) -> None:
    """Drop this machine's index of a manifest that has been replaced."""
    if put.is_news and draft.top_hash is not None:
        reference = draft.reference
        store = builder.app.store(reference.bucket)
        forget_index(builder.app.settings.indexes_dir, store, reference.name, draft.top_hash)


def _report(
    event: publish_manifest.ManifestBuilt
    | publish_manifest.PacksLeftOut
    | publish_manifest.ManifestPushed
    | publish_manifest.TagLinked,
) -> None:
    for line in str(event).splitlines():
        say(line)
    if isinstance(event, publish_manifest.ManifestBuilt):
        say("")


def _require_as_built(state: BuilderState, top_hash: str) -> None:
    built = state.header.built
    if built is not None and built != top_hash:
        raise FileChanged(
            f"files of {reference_of(state).package} have changed since its manifest was built: "
            f"it would be {short(top_hash)}, not {short(built)}",
            hint="Look whether they should have, then run: fusepkg build-manifest",
        )


# --- what push-data has placed -------------------------------------------------------------------------------


def _keep(builder: Builder, draft: Draft, top_hash: str) -> None:
    root = _kept_root(builder)
    shutil.rmtree(root, ignore_errors=True)  # the top hash does not cover where data lie
    with tempfile.TemporaryDirectory(prefix="fusepkg-push-") as scratch:
        manifest = Path(scratch, "manifest")
        write_manifest(draft, manifest)
        build_index(manifest, root, expected_top_hash=top_hash, allow_file_keys=True)


def _kept(builder: Builder) -> Index | None:
    pushed = builder.state.header.pushed
    return None if pushed is None else open_index(_kept_root(builder), pushed)


def _kept_root(builder: Builder) -> Path:
    name = f"{builder.directory}\n{builder.state.header.builder}"
    return (
        builder.app.settings.data_dir
        / _FOLDER
        / hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    )
