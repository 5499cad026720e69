"""verify: check a directory, or what a version has in its bucket, and repair that."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusepkg.app.context import Context
from fusepkg.check.directory import Difference, compare_directory
from fusepkg.check.lists import check_lists, check_packs, mend_lists
from fusepkg.check.objects import Checked, check_objects
from fusepkg.check.repair import Repaired, repair_objects
from fusepkg.cli.install import index_of
from fusepkg.cli.opening import open_package
from fusepkg.cli.options import JsonOption, app_of
from fusepkg.cli.output import (
    EXIT_DIFFERENT,
    counted,
    human_bytes,
    note,
    print_json,
    progress_bar,
    say,
    short,
    show_phase,
)
from fusepkg.cli.packages import is_directory
from fusepkg.daemon import records
from fusepkg.errors import FusepkgError, NotMounted, UsageError
from fusepkg.index.opening import Index, open_index
from fusepkg.install.repair import find_differences
from fusepkg.model.reference import parse_reference
from fusepkg.package.open import forget_index
from fusepkg.package.open import open_package as build_package
from fusepkg.publish.packs import pack_version
from fusepkg.registry.resolve import Resolved
from fusepkg.state.damage import forget_damaged, note_damaged
from fusepkg.state.install_record import installed_at

if TYPE_CHECKING:
    from fusepkg.package.open import OpenedPackage


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(verify)


def verify(
    context: typer.Context,
    target: Annotated[
        str, typer.Argument(metavar="DIR|REF", help="A mounted or installed directory, a copy, or a package.")
    ],
    ref: Annotated[str, typer.Argument(metavar="[REF]", help="For a copy: what it should be.")] = "",
    repair: Annotated[
        bool, typer.Option("--repair", help="Of a package: put again what is missing or damaged in the bucket.")
    ] = False,
    copies: Annotated[
        Path | None, typer.Option("--from", metavar="DIR", help="For --repair: a directory with good copies of files.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check every byte: of a directory against its manifest, or of the objects in the bucket. Exit 1 if any differ."""
    app = app_of(context)
    if ref or is_directory(target):
        if repair or copies is not None:
            raise UsageError(
                "--repair mends what a package has in its bucket, not a directory",
                hint="`fusepkg install --force` mends a directory; name a package to repair its objects",
            )
        differences, what = _verify_directory(app, Path(target), ref)
    else:
        if copies is not None and not repair:
            raise UsageError("--from says where good copies lie for --repair", hint="Add --repair")
        if copies is not None and not copies.is_dir():
            raise UsageError(f"{copies} is not a directory", hint="Name one with good copies of the files")
        differences, what = _verify_package(app, target, repair=repair, copies=copies)
    if as_json:
        print_json([{"logical_key": found.logical_key, "reason": found.reason} for found in differences])
    else:
        for found in differences:
            say(f"{found.logical_key} {found.reason}".lstrip())
        note(f"{what}: {counted(len(differences), 'difference')}" if differences else f"{what}: verified")
    if differences:
        raise typer.Exit(EXIT_DIFFERENT)


def _verify_directory(app: Context, directory: Path, ref: str) -> tuple[list[Difference], str]:
    installed = None if ref else installed_at(app.settings.data_dir, directory)
    if ref or installed is not None:
        index = open_package(app, ref).index if installed is None else index_of(app, installed)
        what = ref if installed is None else f"{installed.reference} ({short(installed.top_hash)})"
        with progress_bar() as show:
            return find_differences(index, directory, progress=show_phase(show)), f"{directory} as {what}"
    try:
        record, inner = records.find_record(directory)
    except NotMounted as exc:
        raise UsageError(
            f"Nothing is mounted or installed in {directory}, so what it should be is not known",
            hint=f"Say it: `fusepkg verify {directory} REF`",
        ) from exc
    mounted = open_index(Path(record.index_root), record.top_hash)
    if inner != "." or mounted is None:
        raise UsageError(f"{directory} is not the directory of a mount", hint=f"That is {record.mountpoint}")
    with progress_bar() as show:
        what = f"{directory} as {record.reference} ({short(record.top_hash)})"
        return compare_directory(directory, mounted.entries, progress=show_phase(show)), what


# --- in the bucket -------------------------------------------------------------------------------------------


def _verify_package(app: Context, ref: str, *, repair: bool, copies: Path | None) -> tuple[list[Difference], str]:
    """Check objects, lists and packs of a version; with ``repair`` mend what can be. Return what is still wrong."""
    opened = open_package(app, ref)
    with tempfile.TemporaryDirectory(prefix="fusepkg-verify-") as scratch:
        checked, index = _check_objects_now(app, ref, opened.index, Path(scratch, "first"))
        differences = checked.differences
        if copies is not None and differences:
            differences = _repair_objects(app, opened, differences, copies).left
            index = _index_of_other_places(app, ref, index, Path(scratch, "repaired")) or index
        differences = [*differences, *_check_registry(app, opened, index, repair=repair)]
    size = human_bytes(index.total_bytes)
    if checked.by_checksum_bytes:
        size += f", {human_bytes(checked.by_checksum_bytes)} of them by the checksums S3 keeps"
    return differences, f"Objects of {ref} ({short(index.top_hash)}, {size})"


def _check_objects_now(app: Context, ref: str, index: Index, scratch: Path) -> tuple[Checked, Index]:
    """Check the objects that the manifest names, as it is in the bucket now if any of this machine's are damaged."""
    checked = _check_objects(app, index)
    if checked.differences:
        places = [str(one.entry.physical_key) for one in checked.differences if one.entry is not None]
        note_damaged(app.settings.data_dir, places)
        newer = _index_of_other_places(app, ref, index, scratch)
        if newer is not None:
            return _check_objects(app, newer), newer
    return checked, index


def _check_objects(app: Context, index: Index) -> Checked:
    with progress_bar() as show:
        return check_objects(
            index.entries,
            app.stores.for_key,
            count=len(index.entries),
            total_bytes=index.total_bytes,
            progress=show_phase(show),
        )


def _index_of_other_places(app: Context, ref: str, index: Index, scratch: Path) -> Index | None:
    """Return an index of the manifest as it is in the bucket now, if that names other objects; None if it does not.

    A push that heals a version may have replaced it. This machine's index is then removed, and built again.
    """
    reference = parse_reference(ref)
    store = app.store(reference.bucket)
    try:
        newer = build_package(store, Resolved(reference, index.top_hash, None), scratch, lambda *_: None).index
    except FusepkgError:
        return None
    pairs = zip(index.entries, newer.entries, strict=True)
    if all(one.physical_key == other.physical_key for one, other in pairs):
        return None
    forget_index(app.settings.indexes_dir, store, reference.name, index.top_hash)
    return newer


def _repair_objects(app: Context, opened: OpenedPackage, differences: list[Difference], copies: Path) -> Repaired:
    reference = opened.resolved.reference
    store = app.store(reference.bucket)
    repaired = repair_objects(store, reference.name, opened.index.top_hash, differences, copies)
    for version in repaired.versions:
        forget_index(app.settings.indexes_dir, store, reference.name, version)
    forget_damaged(app.settings.data_dir, repaired.restored)
    note(f"{counted(len(repaired.restored), 'object')} put again from {copies}")
    if repaired.versions:
        versions = counted(len(repaired.versions), "version")
        note(f"{versions} of {reference.name} named damaged objects, and name the new ones now")
    return repaired


def _check_registry(app: Context, opened: OpenedPackage, index: Index, *, repair: bool) -> list[Difference]:
    """Check lists of hashes and packs, which only save time; with ``repair`` those that can be are written again."""
    store = app.store(opened.resolved.reference.bucket)
    lists, packs = check_lists(store, index.entries), check_packs(store, index)
    if not repair:
        return [*lists, *(Difference("", problem) for problem in packs)]
    mended = {one.logical_key for one in lists if one.entry and mend_lists(store, one.entry, app.stores.for_key)}
    if mended:
        note(f"Lists of hashes of {counted(len(mended), 'file')} written again")
    if packs:
        reader = app.blocking_reader(opened.resolved.reference.bucket)
        pack_version(store, index, reader.read, check=True)
        note(f"{counted(len(packs), 'pack')} written again")
        packs = check_packs(store, index)
    left = [one for one in lists if one.logical_key not in mended]
    return [*left, *(Difference("", problem) for problem in packs)]
