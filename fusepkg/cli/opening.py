"""Packages and their bytes for commands, with a progress bar and with warnings where bucket or cache fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from fusepkg.cli.output import note, progress_bar, writing_output
from fusepkg.errors import UsageError
from fusepkg.model.reference import parse_reference

if TYPE_CHECKING:
    from fusepkg.app.context import Context
    from fusepkg.daemon.records import View
    from fusepkg.model.entry import Entry
    from fusepkg.model.reference import Reference
    from fusepkg.opened.version import OpenVersion
    from fusepkg.package.open import OpenedPackage
    from fusepkg.registry.resolve import Resolved

_PIECE_BYTES = 1 << 20
"""Written at a time."""

_warned = False


def open_package(app: Context, ref: str) -> OpenedPackage:
    """Open the version a reference names, also where the cache cannot be used. Raises as ``Context.open_package``."""
    with progress_bar() as show:
        opened = app.open_package(parse_reference(ref), show)
    indexes = app.settings.indexes_dir
    if not opened.index_root.is_relative_to(indexes):
        warn_of_cache(f"{indexes} cannot be written to, so the index was made for this command only")
    _warn_if_offline(opened.resolved.offline_since_s)
    return opened


def open_version(app: Context, ref: str) -> OpenVersion:
    """The same for what reads through it as Python programs do."""
    from fusepkg.opened.version import version_of

    return version_of(app, parse_reference(ref), open_package(app, ref))


def picked_view(app: Context, ref: str, where: str, layout: str) -> tuple[Reference, View]:
    """Make the view of a package that expressions pick and name; return what it is opened by, and what it is of.

    Raises UsageError, QueryStopped, and as ``open_package``.
    """
    from fusepkg.query.view import open_view, view_of

    if not where:
        raise UsageError("--as goes with --where", hint="--where true picks all entries")
    view = open_view(open_version(app, ref), where, layout)
    what = view_of(view, ref)
    assert what is not None, "a view just made says what it is of"
    return view.reference, what


def resolve_reference(app: Context, ref: str) -> Resolved:
    """Return the version a reference names. Raises PackageError, RemoteError."""
    resolved = app.resolve(parse_reference(ref))
    _warn_if_offline(resolved.offline_since_s)
    return resolved


def _warn_if_offline(offline_since_s: float | None) -> None:
    if offline_since_s is not None:
        note("Warning: the bucket cannot be reached; this is the version the tag was last seen to name")


def write_entry(app: Context, reference: Reference, entry: Entry, output: BinaryIO) -> None:
    """Write an entry's bytes, verified. Raises RemoteError, IntegrityError."""
    reader = app.blocking_reader(reference.bucket)
    for offset in range(0, entry.size, _PIECE_BYTES):
        piece = reader.read(entry, offset, _PIECE_BYTES)
        with writing_output():
            output.write(piece)
    with writing_output():
        output.flush()


def warn_of_cache(message: str) -> None:
    """Say what is wrong with the cache, once in a command: the rest follows from it."""
    global _warned
    if not _warned:
        note(f"Warning: {message}")
    _warned = True
