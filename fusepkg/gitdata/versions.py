"""Versions of tracked data: made on this machine, sent to the registry of a working tree, found again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fusepkg.errors import BucketNotFound, FusepkgError, UsageError
from fusepkg.gitdata.pointer import Pointer
from fusepkg.gitdata.worktree import WAYS, CheckedOut, Worktree, package_for, tracked_by_git
from fusepkg.model.reference import LOCAL_BUCKET, BucketUrl, parse_reference
from fusepkg.publish.draft.draft import Draft
from fusepkg.publish.manifest import build_manifest
from fusepkg.publish.packs import push_packs
from fusepkg.publish.push import push_folder
from fusepkg.publish.push_manifest import look_at_tag, publish_manifest
from fusepkg.publish.upload.data import push_data
from fusepkg.registry.layout import Layout
from fusepkg.registry.manifests import has_manifest
from fusepkg.registry.tags import move_tag, read_tag
from fusepkg.work.progress import no_progress

if TYPE_CHECKING:
    from pathlib import Path

    from fusepkg.app.context import Context
    from fusepkg.model.reference import Reference
    from fusepkg.work.progress import ProgressCallback

_TAG_DIGITS = 12
"""Of the top hash, in the tag that each version gets, so that nothing takes it for one that is not used."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """What tracking a directory gave; ``is_new`` is False if it is the version that the pointer named already."""

    name: str
    pointer: Pointer
    is_new: bool


def track(app: Context, worktree: Worktree, directory: Path, progress: ProgressCallback = no_progress) -> Tracked:
    """Make a version of a directory or file, keep it in this machine's `local` registry, and write the pointer.

    Raises UsageError, FolderUnfit, FileChanged, and what stores raise.
    """
    name = worktree.name_of(directory)
    if directory.is_symlink() or not (directory.is_dir() or directory.is_file()):
        raise UsageError(f"{directory} is no directory and no file", hint="Name what is there, not a link to it")
    pointers = worktree.pointers()
    before = pointers.get(name)
    if before is not None and before.origin is not None:
        raise UsageError(
            f"{name} was imported from {before.origin.repository}, where it is changed",
            hint=f"`fusepkg update {name}` follows it; remove {name}.fusepkg to track it as your own",
        )
    if tracked_by_git(worktree, name):
        raise UsageError(f"git keeps files of {name} itself", hint=f"First take them out: git rm -r -q --cached {name}")
    package = package_for(worktree, name, pointers)
    kept = _kept_here(package)
    file = "" if directory.is_dir() else before.file if before and before.file else directory.name
    pushed = push_folder(directory, kept, app.stores, only=file, hints=app.hints, progress=progress)
    store, tag = app.store(kept.bucket), tag_of(pushed.top_hash)
    if read_tag(store, kept.name, tag) is None:
        move_tag(store, kept.name, tag, pushed.top_hash, None)
    pointer = Pointer(package, pushed.top_hash, pushed.total_bytes, pushed.entries, file=file)
    worktree.write_pointer(name, pointer)
    worktree.note_brought({**worktree.brought(), name: CheckedOut(package, pushed.top_hash, WAYS[0], file)})
    return Tracked(name, pointer, pointer != before)


def tag_of(top_hash: str) -> str:
    """Return the tag of a tracked version."""
    return f"tracked-{top_hash[:_TAG_DIGITS]}"


def where_it_is(app: Context, pointer: Pointer) -> Reference:
    """Return the version of a pointer from where it can be opened: this machine, or its registry."""
    here = _kept_here(pointer.package)
    return replace(here, top_hash=pointer.top_hash) if is_kept_here(app, pointer) else pointer.reference


def is_kept_here(app: Context, pointer: Pointer) -> bool:
    """Return whether this machine has a version itself."""
    here = _kept_here(pointer.package)
    try:
        return has_manifest(app.store(here.bucket), here.name, pointer.top_hash)
    except BucketNotFound:
        return False


def is_kept(app: Context, pointer: Pointer) -> bool:
    """Return whether a version is in a registry, so that its files here can go. False if that cannot be asked."""
    try:
        found = where_it_is(app, pointer)
        return has_manifest(app.store(found.bucket), found.name, pointer.top_hash)
    except FusepkgError:
        return False


def is_pushed(app: Context, pointer: Pointer) -> bool:
    """Return whether a version is in its registry. Raises what stores raise, but for a registry that is not there."""
    reference = pointer.reference
    try:
        return has_manifest(app.store(reference.bucket), reference.name, pointer.top_hash)
    except BucketNotFound:
        return False


def push_version(app: Context, pointer: Pointer, progress: ProgressCallback = no_progress) -> int:
    """Send a version that is kept here to its registry; return the bytes that were sent.

    Raises HashNotFound if it is not kept here, and what stores raise.
    """
    kept = replace(_kept_here(pointer.package), top_hash=pointer.top_hash)
    opened = app.open_package(kept)
    tag = tag_of(pointer.top_hash)
    draft = Draft(replace(pointer.reference, top_hash=None, tag=tag), app.stores, tag=tag)
    draft.add_package(opened.index)
    build_manifest(draft, hints=app.hints)
    before = look_at_tag(draft, tag, Layout.FUSEPKG)
    sent = push_data(draft, hints=app.hints, progress=progress)
    push_packs(draft, None, check=False, progress=progress)
    publish_manifest(draft, tag, Layout.FUSEPKG, before, broken=sent.broken)
    assert draft.top_hash == pointer.top_hash, "a copy is the same version"
    return sent.uploaded_bytes


def _kept_here(package: str) -> Reference:
    """Return the package of this machine's own registry in which versions of a tracked one are kept."""
    reference = parse_reference(package)
    return replace(reference, bucket=BucketUrl(LOCAL_BUCKET, ""))
