"""The commands diff, tags, log, tag and rollback."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from fusepkg.cli.opening import open_package
from fusepkg.cli.options import JsonOption, RefArgument, app_of
from fusepkg.cli.output import EXIT_DIFFERENT, human_bytes, note, print_json, print_table, say, short
from fusepkg.errors import HashNotFound, UsageError
from fusepkg.index.difference import Change, MetaChange, compare_indexes, compare_metadata
from fusepkg.model.entry import EMPTY_DIRECTORY_NAME, EntryKind
from fusepkg.model.reference import Reference, parse_reference, parse_tag
from fusepkg.registry.catalogue import list_history, list_tags
from fusepkg.registry.manifests import has_manifest
from fusepkg.registry.resolve import resolve
from fusepkg.registry.tags import move_tag, read_tag, roll_back, tag_history

if TYPE_CHECKING:
    from fusepkg.errors import FusepkgError
    from fusepkg.model.entry import Entry
    from fusepkg.package.open import OpenedPackage
    from fusepkg.registry.catalogue import Named
    from fusepkg.registry.tags import TagMove
    from fusepkg.store.protocol import ObjectStore

_KIND_WORDS = {
    EntryKind.FILE: "a plain file",
    EntryKind.EXECUTABLE: "an executable file",
    EntryKind.SYMLINK: "a symbolic link",
    EntryKind.EMPTY_DIRECTORY: "an empty directory",
}


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(diff)
    app.command()(tags)
    app.command()(log)
    app.command()(tag)
    app.command()(rollback)


def diff(
    context: typer.Context,
    old: Annotated[str, typer.Argument(metavar="REF", help="A version.")],
    new: Annotated[str, typer.Argument(metavar="REF", help="The version to compare it with, of any package.")],
    as_json: JsonOption = False,
) -> None:
    """List the entries that differ between two versions. Exit 1 if any do.

    In a git repository that tracks data, also between two of its revisions.
    """
    if not set(f"{old}{new}") & set(":@"):
        from fusepkg.cli.gitdata import diff_revisions, revisions_of

        if commits := revisions_of(old, new):
            diff_revisions(context, *commits, as_json=as_json)
            return
    app = app_of(context)
    before, after = open_package(app, old), open_package(app, new)
    metadata = list(compare_metadata(before.index, after.index))
    if as_json:
        changes = list(compare_indexes(before.index, after.index))
        print_json(
            {
                "old": _version(before),
                "new": _version(after),
                "changes": [_change_facts(change) for change in changes],
                "metadata": [{"kind": change.kind, "logical_key": change.logical_key} for change in metadata],
            }
        )
        differ = bool(changes or metadata)
    else:
        differ = _print_changes(before, after, metadata)
    if differ:
        raise typer.Exit(EXIT_DIFFERENT)


def _print_changes(before: OpenedPackage, after: OpenedPackage, metadata: list[MetaChange]) -> bool:
    for metadata_change in metadata:
        of = metadata_change.logical_key or "the package"
        say(f"{metadata_change.kind:<8}  metadata of {of}")
    count = Counter[str]()
    for change in compare_indexes(before.index, after.index):
        count[change.kind] += 1
        say(f"{change.kind:<8}  {_described(change)}")
    names = [f"{one.resolved.reference} ({short(one.index.top_hash)})" for one in (before, after)]
    if not (count or metadata):
        note(f"{names[0]} and {names[1]}: no differences")
        return False
    note(f"{count['added']:,} added, {count['removed']:,} removed, {count['modified']:,} modified")
    note(f"from {names[0]} to {names[1]}")
    return True


def _described(change: Change) -> str:
    old, new = change.old, change.new
    one = new or old
    assert one is not None, "a change has at least one side"
    if one.kind is EntryKind.EMPTY_DIRECTORY:
        return f"{change.logical_key.removesuffix(EMPTY_DIRECTORY_NAME)} (an empty directory)"
    if old is None or new is None:
        return f"{change.logical_key} ({human_bytes(one.size)})"
    if old.kind is not new.kind:
        return f"{change.logical_key} (now {_KIND_WORDS[new.kind]}, was {_KIND_WORDS[old.kind]})"
    if change.is_meta_only:
        return f"{change.logical_key} (only its metadata)"
    size = human_bytes(new.size) if new.size == old.size else f"{human_bytes(new.size)}, was {human_bytes(old.size)}"
    return f"{change.logical_key} ({size})"


def _version(opened: OpenedPackage) -> dict[str, str]:
    return {"reference": str(opened.resolved.reference), "top_hash": opened.index.top_hash}


def _change_facts(change: Change) -> dict[str, object]:
    return {
        "kind": change.kind,
        "logical_key": change.logical_key,
        "old": _entry_facts(change.old),
        "new": _entry_facts(change.new),
    }


def _entry_facts(entry: Entry | None) -> dict[str, object] | None:
    if entry is None:
        return None
    return {
        "size": entry.size,
        "hash": str(entry.digest),
        "physical_key": str(entry.physical_key),
        "meta": dict(entry.meta),
    }


def tags(context: typer.Context, ref: RefArgument, as_json: JsonOption = False) -> None:
    """List the tags of a package."""
    reference, app = parse_reference(ref), app_of(context)
    store = app.store(reference.bucket)
    skipped: list[FusepkgError] = []
    found = list_tags(store, reference.name, skip=skipped.append)
    _note_skipped(skipped)
    if not found and not skipped:
        resolve(
            store, replace(reference, top_hash=None)
        )  # raises, and tells a package without tags from one that is not there
    if as_json:
        print_json([{"tag": named.tag, "hash": named.top_hash, "time": named.time} for named in found])
        return
    print_table(("TAG", "HASH", "MOVED"), [(named.tag, short(named.top_hash), named.time or "") for named in found])


def log(context: typer.Context, ref: RefArgument, as_json: JsonOption = False) -> None:
    """List the versions a tag has named, newest first."""
    reference, app = parse_reference(ref), app_of(context)
    store = app.store(reference.bucket)
    skipped: list[FusepkgError] = []
    history = list_history(store, reference.name, reference.tag, skip=skipped.append)
    _note_skipped(skipped)
    if not history and not skipped:
        resolve(store, replace(reference, top_hash=None))  # raises, and names the tags there are
    if as_json:
        print_json([_move_facts(named) for named in history])
        return
    print_table(
        ("HASH", "TIME", "PUBLISHER", "MESSAGE"),
        [(short(named.top_hash), named.time or "", named.publisher or "", named.message or "") for named in history],
    )


def _note_skipped(errors: list[FusepkgError]) -> None:
    for error in errors:
        note(f"left out: {error.message}")


def tag(
    context: typer.Context,
    ref: RefArgument,
    name: Annotated[str, typer.Argument(metavar="TAG", help="The tag, without the package's name.")],
    message: Annotated[str | None, typer.Option("--message", "-m", metavar="TEXT", help="Why, for `log`.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a tag name the version that a reference names. Exit 8 if another publisher moves it at the same time."""
    reference, app = parse_reference(ref), app_of(context)
    target = replace(reference, tag=parse_tag(name), top_hash=None)
    store = app.store(reference.bucket)
    top_hash = resolve(store, reference).top_hash
    if reference.top_hash is not None and not has_manifest(store, reference.name, top_hash):
        raise HashNotFound(
            f"{reference.package} has no version {top_hash}",
            hint=f"See its versions with: fusepkg log {reference.package}",
        )
    move, moved = link_tag(store, target, top_hash, message=message)
    describe_move(target, move, moved, as_json=as_json)


def link_tag(
    store: ObjectStore, target: Reference, top_hash: str, *, message: str | None = None
) -> tuple[TagMove, bool]:
    """Move a tag to an existing version; return its last move, and False if it named that version already.

    Raises TagConflict.
    """
    before = tag_history(store, target.name, target.tag, limit=1)
    if before and before[0].top_hash == top_hash:
        return before[0], False
    expected = before[0].state if before else None
    return move_tag(store, target.name, target.tag, top_hash, expected, message=message), True


def rollback(
    context: typer.Context,
    ref: Annotated[str, typer.Argument(metavar="NAME:TAG", help="A tag of a package.")],
    top_hash: Annotated[
        str, typer.Argument(metavar="[HASH]", help="The version to go back to; default: the one it named before.")
    ] = "",
    message: Annotated[str, typer.Option("--message", "-m", metavar="TEXT", help="Why, for `log`.")] = "Rolled back",
    as_json: JsonOption = False,
) -> None:
    """Make a tag name an earlier version again. Its history stays, with this move on top."""
    reference, app = parse_reference(ref), app_of(context)
    if reference.top_hash is not None:
        raise UsageError(
            f"{ref} names a version, not a tag", hint=f"Write {reference.package}:TAG {reference.top_hash}"
        )
    store = app.store(reference.bucket)
    wanted = resolve(store, parse_reference(f"{reference.package}@{top_hash}")).top_hash if top_hash else None
    before = read_tag(store, reference.name, reference.tag)
    move = roll_back(store, reference.name, reference.tag, wanted, message=message)
    describe_move(reference, move, before is None or move.number != before.number, as_json=as_json)


def describe_move(target: Reference, move: TagMove, moved: bool, *, as_json: bool = False) -> None:
    """Print the version that a tag names now."""
    if as_json:
        print_json({"reference": str(target), **_move_facts(move), "previous": move.previous, "tag_moved": moved})
    elif not moved:
        say(f"{target} names manifest {short(move.top_hash)} already")
    else:
        say(f"Linking {target} to manifest {short(move.top_hash)}")
        if move.previous is not None:
            note(f"It named {short(move.previous)} before")


def _move_facts(move: TagMove | Named) -> dict[str, object]:
    return {"hash": move.top_hash, "time": move.time, "publisher": move.publisher, "message": move.message}
