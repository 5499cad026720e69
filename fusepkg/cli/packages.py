"""The commands ls, cat, hash and list."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusepkg.app.context import Context
from fusepkg.cli.install import index_of
from fusepkg.cli.opening import open_package, resolve_reference, write_entry
from fusepkg.cli.options import BlockHashesOption, JsonErrorsOption, JsonOption, RefArgument, app_of
from fusepkg.cli.output import (
    note,
    print_json,
    progress_bar,
    say,
    show_phase,
)
from fusepkg.daemon import records
from fusepkg.errors import EntryNotFound, FsError, NotMounted, UsageError
from fusepkg.install.repair import find_changes
from fusepkg.model.reference import parse_bucket
from fusepkg.publish.push import folder_hash
from fusepkg.registry.catalogue import list_packages
from fusepkg.state.install_record import installed_at
from fusepkg.vfs.tree import PackageTree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusepkg.index.reader import Inode


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(ls)
    app.command()(cat)
    app.command("hash")(print_hash)
    app.command("list")(list_bucket)


def ls(
    context: typer.Context,
    ref: RefArgument,
    path: Annotated[str, typer.Argument(metavar="[PATH]", help="A directory or file of the package.")] = "",
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Everything below it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List what a package holds, without fetching data."""
    tree = PackageTree(open_package(app_of(context), ref).index)
    found = list(_names(tree, path.strip("/"), recursive=recursive))
    if as_json:
        print_json([_facts(tree, key, nid) for key, nid in found])
        return
    for key, _ in found:
        say(key)


def _names(tree: PackageTree, path: str, *, recursive: bool) -> Iterator[tuple[str, int]]:
    """Yield logical keys below a path and their inodes; a directory's ends with a slash."""
    inode = _resolve(tree, path)
    if not inode.is_directory:
        yield path, inode.nid
        return
    for name, nid, _ in tree.readdir(inode.nid, 0):
        key = f"{path}/{name.decode()}" if path else name.decode()
        if not tree.inode(nid).is_directory:
            yield key, nid
            continue
        yield f"{key}/", nid
        if recursive:
            yield from _names(tree, key, recursive=True)


def _resolve(tree: PackageTree, path: str) -> Inode:
    try:
        return tree.resolve(path)
    except FsError as exc:
        raise EntryNotFound(f"the package has no {path!r}", hint="`fusepkg ls REF` lists its top level") from exc


def _facts(tree: PackageTree, key: str, nid: int) -> dict[str, object]:
    if tree.inode(nid).is_directory:
        return {"logical_key": key}
    entry = tree.entry(nid)
    return {
        "logical_key": key,
        "size": entry.size,
        "hash": str(entry.digest),
        "physical_key": str(entry.physical_key),
        "meta": entry.meta,
    }


def cat(
    context: typer.Context,
    ref: RefArgument,
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file of the package.")],
    _json_errors: JsonErrorsOption = False,
) -> None:
    """Write a file of a package to standard output, verified."""
    app = app_of(context)
    opened = open_package(app, ref)
    tree = PackageTree(opened.index)
    inode = _resolve(tree, path.strip("/"))
    if inode.is_directory:
        raise EntryNotFound(f"{path!r} is a directory of the package", hint=f"`fusepkg ls {ref} {path}` lists it")
    write_entry(app, opened.resolved.reference, tree.entry(inode.nid), sys.stdout.buffer)


def print_hash(
    context: typer.Context,
    target: Annotated[
        str, typer.Argument(metavar="DIR|REF", help="A mounted or installed directory, a folder, or a package.")
    ],
    block_hashes: BlockHashesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a top hash: of what is mounted or installed, of what pushing a folder gives, of a reference."""
    app = app_of(context)
    if not is_directory(target):
        _say_hash(resolve_reference(app, target).top_hash, as_json)
        return
    try:
        record, inner = records.find_record(Path(target))
    except NotMounted:
        _say_hash(_directory_hash(app, Path(target), block_hashes=block_hashes), as_json)
        return
    if inner != ".":
        raise UsageError(f"{target} lies inside the mount {record.mountpoint}", hint="Name the mount's directory")
    _say_hash(record.top_hash, as_json)


def _say_hash(top_hash: str, as_json: bool) -> None:
    if as_json:
        print_json({"top_hash": top_hash})
    else:
        say(top_hash)


def _directory_hash(app: Context, directory: Path, *, block_hashes: bool | None) -> str:
    installed = installed_at(app.settings.data_dir, directory)
    if installed is not None:
        if find_changes(index_of(app, installed), directory, app.settings.data_dir):
            note(f"Warning: files have been changed since it was installed: fusepkg status {directory}")
        return installed.top_hash
    with progress_bar() as show:
        return folder_hash(directory, block_hashes=block_hashes, hints=app.hints, progress=show_phase(show))


def list_bucket(
    context: typer.Context,
    bucket: Annotated[str, typer.Argument(metavar="BUCKET", help="A bucket, or `local`.")],
    as_json: JsonOption = False,
) -> None:
    """List the packages of a bucket."""
    app = app_of(context)
    names = list_packages(app.store(parse_bucket(bucket)))
    if as_json:
        print_json(names)
        return
    for name in names:
        say(name)


def is_directory(target: str) -> bool:
    """A name that could be both is a directory if there is one: `./` in front of it, or a scheme, makes it plain."""
    return target.startswith((".", "/")) or Path(target).is_dir()
