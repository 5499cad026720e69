"""The commands init, add, set, set-meta, mv and rm, which make the next version of a package step by step.

Each command replays all changes before saving its own, so that an invalid one is never saved.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from fusepkg.app.context import Context
from fusepkg.cli.builder_draft import add_source, draft_of, make_change, reference_of, shown_items
from fusepkg.cli.builder_state import (
    FORMAT,
    Add,
    BuilderChange,
    BuilderHeader,
    BuilderState,
    Move,
    Remove,
    Set,
    SetMeta,
    create_state,
    locked,
    read_state,
    require_directory,
    write_state,
)
from fusepkg.cli.opening import open_package
from fusepkg.cli.options import JsonErrorsOption, SymlinksOption, app_of
from fusepkg.cli.output import say, short
from fusepkg.errors import KeyCollision, UsageError
from fusepkg.model.reference import parse_reference
from fusepkg.publish.draft.draft import Draft
from fusepkg.publish.draft.items import Item
from fusepkg.publish.draft.names import as_directory
from fusepkg.publish.draft.sources import shown_path
from fusepkg.publish.folder import parse_symlinks
from fusepkg.publish.workspace import is_workspace

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="A logical key of the package.")]

PACKAGE_KEY = "."
"""Names the package itself where a logical key is asked for."""

_META_EXAMPLE = 'For example \'{"source": "camera 7"}\''


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(init)
    app.command()(add)
    app.command("set")(set_entry)
    app.command("set-meta")(set_meta)
    app.command()(mv)
    app.command()(rm)


@dataclass(slots=True)
class Builder:
    """The builder a command works on, locked; the process is in its working directory.

    ``typed_in`` is the directory the command was typed in, which its paths are relative to.
    """

    app: Context
    directory: Path
    typed_in: Path
    state: BuilderState

    @property
    def package(self) -> str:
        """The package's name, for people."""
        return reference_of(self.state).package

    def save(self, state: BuilderState) -> None:
        """Write the file."""
        write_state(self.directory, state)
        self.state = state

    def draft(self, state: BuilderState | None = None) -> Draft:
        """Return the version that is being made."""
        return draft_of(self.app, state or self.state)

    def change(self, change: BuilderChange) -> Item | None:
        """Make one more change and save it; return the added item if it is one line."""
        draft = self.draft()
        item = make_change(self.app, draft, change)
        self.save(self.state.with_change(change, shown_items(draft)))
        return item

    def source(self, text: str) -> str:
        """Return a source relative to the working directory; URLs and absolute paths are unchanged."""
        if "://" in text or text.startswith("/") or not text:
            return text
        closing = "/" if text.endswith("/") or (self.typed_in / text).is_dir() else ""
        return shown_path(os.path.relpath(self.typed_in / text, self.directory) + closing)


@contextmanager
def opened_builder(app: Context) -> Iterator[Builder]:
    """The builder of the directory the command is typed in, or of one above it, locked. Raises BuilderUnfit."""
    typed_in = Path.cwd()
    directory = require_directory(typed_in)
    with locked(directory):
        state = read_state(directory)
        os.chdir(directory)
        yield Builder(app, directory, typed_in, state)


def init(
    context: typer.Context,
    ref: Annotated[
        str, typer.Argument(metavar="[REF]", help="The package; with a tag or hash, it starts from that version.")
    ] = "",
    git: Annotated[bool, typer.Option("--git", help="Prepare a git repository to track data, with hooks.")] = False,
    registry: Annotated[
        str, typer.Option(metavar="REGISTRY", help="With --git: where data goes: bucket/namespace, file:///DIR.")
    ] = "",
    bring: Annotated[str, typer.Option(metavar="WAY", help="With --git: how data is brought: files or mount.")] = "",
    _json_errors: JsonErrorsOption = False,
) -> None:
    """Start to make a version of a package in this directory, step by step; or, with --git, to track data in git."""
    if git:
        from fusepkg.cli.gitdata import init_git

        if ref:
            raise UsageError("init takes REF or --git", hint="--registry names where tracked data goes")
        init_git(context, registry, bring)
        return
    if not ref or registry or bring:
        raise UsageError(
            "init needs REF, or --git", hint="fusepkg init bucket/name, or fusepkg init --git --registry BUCKET"
        )
    app, reference = app_of(context), parse_reference(ref)
    directory = Path.cwd()
    with locked(directory):
        if not set(ref.rpartition("/")[2]) & set(":@"):
            create_state(directory, BuilderState(BuilderHeader(reference.package, FORMAT)))
            say(f"New PackageBuilder {reference.package} created")
            return
        opened = open_package(app, ref)
        header = BuilderHeader(reference.package, FORMAT, base=opened.index.top_hash, tag=opened.resolved.tag)
        draft = draft_of(app, BuilderState(header))
        create_state(directory, BuilderState(header, items=shown_items(draft)))
    say(f"New PackageBuilder {reference.package} created from {opened.resolved.reference} ({short(header.base or '')})")


def add(
    context: typer.Context,
    first: Annotated[
        str,
        typer.Argument(
            metavar="KEY|SOURCE", help="Alone: what to add. Before it: the name it gets; a directory ends with a slash."
        ),
    ],
    second: Annotated[
        str | None,
        typer.Argument(metavar="[SOURCE]", help="A file, a folder, s3://bucket/key, or s3://bucket/prefix/."),
    ] = None,
    package: Annotated[
        bool, typer.Option("--package", help="What to add is a version of a package: all it holds.")
    ] = False,
    symlinks: SymlinksOption = "refuse",
    _json_errors: JsonErrorsOption = False,
) -> None:
    """Add data. What has one of the names already is replaced."""
    app = app_of(context)
    key, source = (None, first) if second is None else (first, second)
    with opened_builder(app) as builder:
        if package:
            _add_package(builder, as_directory(key or ""), source)
            return
        text = builder.source(source)
        draft = builder.draft()
        item = add_source(draft, text, key, symlinks=parse_symlinks(symlinks))
        change = Add(item.logical, text, symlinks=symlinks, record=draft.record if is_workspace(text) else None)
        builder.save(builder.state.with_change(change, shown_items(draft)))
        say(_added(item, builder.package))


def _added(item: Item, package: str) -> str:
    if item.is_folder:
        what = "contents of directory" if item.is_local else "objects in"
        return f"Adding {what} {item.source} to {package} as {item.logical or './'}..."
    return f"Adding {'file' if item.is_local else 'object'} {item.source} to {package} as {item.logical}"


def _add_package(builder: Builder, directory: str, source: str) -> None:
    opened = open_package(builder.app, source)
    reference, top_hash = opened.resolved.reference, opened.index.top_hash
    builder.change(Add(directory, package=f"{reference.package}@{top_hash}"))
    say(f"Adding package {reference} ({short(top_hash)}) to {builder.package} as {directory or './'}...")


def set_entry(
    context: typer.Context,
    key: KeyArgument,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A file, or s3://bucket/key.")],
    meta: Annotated[str | None, typer.Option(metavar="JSON", help="Metadata of the entry, a JSON object.")] = None,
    _json_errors: JsonErrorsOption = False,
) -> None:
    """Make one logical key a file or an object."""
    values = None if meta is None else parse_meta(meta, "--meta")
    with opened_builder(app_of(context)) as builder:
        item = builder.change(Set(key, builder.source(source), values))
        assert item is not None, "what is set is one line"
        say(f"Setting logical key {key} as {item.source}")


def set_meta(
    context: typer.Context,
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="A file or directory of the package, or . for the package itself.")
    ],
    meta: Annotated[str, typer.Argument(metavar="JSON", help="A JSON object; it replaces what was there.")],
    _json_errors: JsonErrorsOption = False,
) -> None:
    """Replace the metadata of an entry, a directory, or the package."""
    values = parse_meta(meta, "the metadata")
    with opened_builder(app_of(context)) as builder:
        builder.change(SetMeta("" if key == PACKAGE_KEY else key, values))
        say(f"Setting metadata of {builder.package if key == PACKAGE_KEY else key}")


def mv(
    context: typer.Context,
    old: Annotated[str, typer.Argument(metavar="DIR", help="A directory of the package.")],
    new: Annotated[str, typer.Argument(metavar="DIR", help="Where its contents go.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace entries that have one of the names.")] = False,
    _json_errors: JsonErrorsOption = False,
) -> None:
    """Move the contents of a directory of the package to another."""
    with opened_builder(app_of(context)) as builder:
        move = Move(as_directory(old), as_directory(new), overwrite)
        try:
            builder.change(move)
        except KeyCollision as exc:
            raise KeyCollision(exc.message, hint=exc.hint.replace("overwrite=True", "--overwrite")) from exc
        say(f"Moving contents of {move.key or './'} to {move.to or './'}")


def rm(context: typer.Context, key: KeyArgument, _json_errors: JsonErrorsOption = False) -> None:
    """Take an entry, or all below a directory, out of the package. Files and objects stay."""
    with opened_builder(app_of(context)) as builder:
        builder.change(Remove(key))
        say(f"Removing {key} from {builder.package}")


def parse_meta(text: str, what: str) -> dict[str, Any]:
    """Parse metadata from JSON. Raises UsageError."""
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"{what} is not JSON: {exc}", hint=_META_EXAMPLE) from exc
    if not isinstance(meta, dict):
        raise UsageError(f"{what} must be a JSON object", hint=_META_EXAMPLE)
    return meta
