"""From a builder's file to the version it describes.

Owns: making the changes again in their order. Must not know: how the file is kept, what commands print.
"""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from fusepkg.cli.builder_state import STATE_NAME, Add, Change, Move, Remove, Set, SetMeta, Shown
from fusepkg.cli.output import progress_bar
from fusepkg.model.reference import parse_reference
from fusepkg.publish.draft import Draft
from fusepkg.registry.opening import open_package
from fusepkg.registry.remembered import Remembered
from fusepkg.store.opening import StoreSet

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusepkg.cli.builder_state import BuilderState
    from fusepkg.index.opening import Index
    from fusepkg.model.reference import Reference
    from fusepkg.publish.items import Item
    from fusepkg.settings import Settings


def reference_of(state: BuilderState) -> Reference:
    """The package that is being made."""
    return parse_reference(state.header.builder)


def open_version(settings: Settings, stores: StoreSet, reference: Reference) -> Index:
    """Open a version that the new one is made of. Raises what ``open_package`` raises."""
    store = stores.for_bucket(reference.bucket)
    with progress_bar() as show, closing(Remembered(settings.remembered_dir)) as remembered:
        return open_package(store, reference, settings.indexes_dir, remembered, show).index


def draft_of(settings: Settings, state: BuilderState) -> Draft:
    """The version, with all changes made again; the working directory must be the builder's.

    Raises what the changes raise: FolderUnfit where a file is gone, KeyCollision, EntryNotFound, RemoteError.
    """
    header, reference = state.header, reference_of(state)
    stores = StoreSet(settings.s3, settings.data_dir)
    draft = Draft(reference, stores, tag=header.tag)
    if header.base is not None:
        index = open_version(settings, stores, replace(reference, top_hash=header.base))
        draft.add_package(index)
        draft.user_meta = index.header.get("user_meta")
        if header.tag is not None:
            draft.based_on[header.tag] = header.base
    draft.message = header.message
    for change in state.changes:
        make_change(settings, draft, change)
    return draft


def make_change(settings: Settings, draft: Draft, change: Change) -> Item | None:
    """Make one change; gives what was added, where it is one line."""
    match change:
        case Add(key, source, package) if package:
            draft.add_package(open_version(settings, draft.stores, parse_reference(package)), key)
        case Add(key, source):
            return add_source(draft, source, key)
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


def add_source(draft: Draft, source: str, key: str | None) -> Item:
    """Add a file, a folder or objects; without ``key`` they keep the name they have."""
    return draft.add(source, key, leave_out=None if "://" in source else _leave_out(source))


def _leave_out(source: str) -> Callable[[str, bool], bool]:
    """Leave out the builder's own file, which changes with every command, from a folder that it lies in."""
    own = os.path.relpath(STATE_NAME, source)
    return lambda key, _is_directory: key == own


def shown_items(draft: Draft) -> tuple[Shown, ...]:
    """The contents as lines: folders and files as they were added, exceptions below their folder."""
    return tuple(Shown(item.logical, item.source) for item in draft.items())
