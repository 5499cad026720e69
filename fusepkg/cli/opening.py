"""A reference as typed, opened for a command.

Owns: the progress bar meanwhile, and what is said when the bucket cannot be reached. Must not know: what a command does
with a package.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from fusepkg.cli.output import note, progress_bar
from fusepkg.model.reference import parse_reference
from fusepkg.registry.opening import open_package
from fusepkg.registry.remembered import Remembered
from fusepkg.store.opening import open_store

if TYPE_CHECKING:
    from fusepkg.registry.opening import OpenedPackage
    from fusepkg.settings import Settings


def opened_package(settings: Settings, ref: str) -> OpenedPackage:
    """Open the version a reference names. Raises what ``open_package`` raises."""
    reference = parse_reference(ref)
    store = open_store(reference.bucket, settings.s3, settings.data_dir)
    with progress_bar() as show, closing(Remembered(settings.remembered_dir)) as remembered:
        opened = open_package(store, reference, settings.indexes_dir, remembered, show)
    if opened.offline_since_s is not None:
        note("Warning: the bucket cannot be reached; this is the version the tag was last seen to name")
    return opened
