"""A reference as typed, opened for a command.

Owns: the progress bar meanwhile, and what is said when the bucket cannot be reached. Must not know: what a command does
with a package.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from fusepkg.cli.output import note, progress_bar
from fusepkg.model.reference import parse_reference
from fusepkg.package.fallback import sheltered_package
from fusepkg.state.hints import Remembered
from fusepkg.store.opening import open_store

if TYPE_CHECKING:
    from fusepkg.package.open import OpenedPackage
    from fusepkg.settings import Settings

_warned = False


def opened_package(settings: Settings, ref: str) -> OpenedPackage:
    """Open the version a reference names, also where the cache cannot be used. Raises what ``open_package`` raises."""
    reference = parse_reference(ref)
    store = open_store(reference.bucket, settings.s3, settings.data_dir)
    with (
        progress_bar() as show,
        closing(Remembered(settings.remembered_dir)) as remembered,
        sheltered_package(store, reference, settings.indexes_dir, remembered, show) as opened,
    ):
        pass  # an index in a temporary directory stays readable without it
    if not opened.index_root.is_relative_to(settings.indexes_dir):
        warn_of_cache(f"{settings.indexes_dir} cannot be written to, so the index was made for this command only")
    if opened.offline_since_s is not None:
        note("Warning: the bucket cannot be reached; this is the version the tag was last seen to name")
    return opened


def warn_of_cache(message: str) -> None:
    """Say what is wrong with the cache, once in a command: the rest follows from it."""
    global _warned
    if not _warned:
        note(f"Warning: {message}")
    _warned = True
