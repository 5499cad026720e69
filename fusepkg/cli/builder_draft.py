"""Make a draft from a builder's file."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg.cli.builder_state import Add, BuilderChange, Move, Remove, Set, SetMeta, ShownItem
from fusepkg.cli.output import progress_bar
from fusepkg.daemon.records import mounts_below
from fusepkg.model.reference import parse_reference
from fusepkg.publish.draft.draft import Draft
from fusepkg.publish.folder import Symlinks, parse_symlinks
from fusepkg.publish.workspace import STATE_NAME, add_workspace, is_workspace

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusepkg.app.context import Context
    from fusepkg.cli.builder_state import BuilderState
    from fusepkg.index.opening import Index
    from fusepkg.model.reference import Reference
    from fusepkg.publish.draft.items import Item


def reference_of(state: BuilderState) -> Reference:
    """Return the reference of the package being made."""
    return parse_reference(state.header.builder)


def open_version(app: Context, reference: Reference) -> Index:
    """Open a version that the new one is made of. Raises as ``Context.open_package``."""
    with progress_bar() as show:
        return app.open_package(reference, show).index


def draft_of(app: Context, state: BuilderState) -> Draft:
    """The version, with all changes made again; the working directory must be the builder's.

    Raises what the changes raise: FolderUnfit where a file is gone, KeyCollision, EntryNotFound, RemoteError.
    """
    base = state.header.base
    if base is None:
        draft = _empty_draft(app, state)
    else:
        index = open_version(app, replace(reference_of(state), top_hash=base))
        draft = draft_of_version(app, state, index)
        if not state.is_pushed:
            draft.message = state.header.message
    for change in state.changes:
        make_change(app, draft, change)
    return draft


def draft_of_version(app: Context, state: BuilderState, index: Index) -> Draft:
    """A version that is there already, to be changed or published; its message and metadata are kept."""
    draft = _empty_draft(app, state)
    draft.add_package(index)
    draft.user_meta = index.header.get("user_meta")
    draft.message = index.header.get("message")
    return draft


def _empty_draft(app: Context, state: BuilderState) -> Draft:
    header = state.header
    draft = Draft(reference_of(state), app.stores)
    draft.message = header.message
    if header.base is not None and header.tag is not None:
        draft.based_on[header.tag] = header.base
    return draft


def make_change(app: Context, draft: Draft, change: BuilderChange) -> Item | None:
    """Make one change; return the added item if it is one line."""
    match change:
        case Add(key, source, package) if package:
            draft.add_package(open_version(app, parse_reference(package)), key)
        case Add(key, source, _, record, symlinks):
            item = add_source(draft, source, key, symlinks=parse_symlinks(symlinks))
            if record is not None:
                draft.record = record
            return item
        case Set(key, source, meta):
            return draft.set(key, source, meta)
        case SetMeta("", meta):
            draft.user_meta = meta
        case SetMeta(key, meta):
            draft.set_meta(key, meta)
        case Move(key, to, overwrite):
            draft.move(key, to, overwrite=overwrite)
        case Remove(key):
            draft.delete(key)
    return None


def add_source(draft: Draft, source: str, key: str | None, *, symlinks: Symlinks) -> Item:
    """Add a file, a folder or objects; without ``key`` they keep the name they have.

    All of the working directory is a workspace: what is ignored in it stays out, and how it came about is recorded.
    """
    if is_workspace(source):
        mounts = mounts_below(Path.cwd())
        inputs = mounts.values()
        return add_workspace(draft, logical_key=key or "", inputs=inputs, own=mounts, symlinks=symlinks)
    return draft.add(source, key, symlinks=symlinks, leave_out=None if "://" in source else _leave_out(source))


def _leave_out(source: str) -> Callable[[str, bool], bool]:
    """Leave out the builder's own file, which changes with every command, from a folder that it lies in."""
    own = os.path.relpath(STATE_NAME, source)
    return lambda key, _is_directory: key == own


def shown_items(draft: Draft) -> tuple[ShownItem, ...]:
    """Return the contents as lines: folders and files as added, exceptions below their folder."""
    return tuple(ShownItem(item.logical, item.source) for item in draft.items())
