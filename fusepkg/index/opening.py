"""Opens the index of one version of a package; the work does not grow with the package.

Owns: the opened index as a value, and what to do with a damaged one. Must not know: buckets, mounts.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fusepkg.errors import FusepkgError, IndexDamaged
from fusepkg.index.build import rebuild_index
from fusepkg.index.files import index_directory, open_files

if TYPE_CHECKING:
    from pathlib import Path

    from fusepkg.index.entries import EntryTable
    from fusepkg.index.reader import ImageReader

log = logging.getLogger(__name__)

_CHECKED_BYTES = 1024 * 1024
"""How much of an image ``check_index`` reads at once."""


@dataclass(frozen=True, slots=True)
class Index:
    """One version of a package on this machine: names in ``image``, all else in ``entries``."""

    directory: Path
    header: dict[str, Any]
    top_hash: str
    image: ImageReader
    entries: EntryTable
    total_bytes: int
    data_blocks: int


def open_index(root: Path, top_hash: str) -> Index | None:
    """The index of that version if it has been built here; None says: build it.

    Blocks are checked as they are used, not here (``check_index`` checks everything). An index that is known to be
    damaged is first built anew from the manifest kept beside it.
    """
    directory = index_directory(root, top_hash)
    if not directory.is_dir():
        return None
    try:
        return _read(directory)
    except IndexDamaged as exc:
        log.warning("%s; building it anew", exc.message)
    try:
        rebuild_index(root, top_hash)
        return _read(directory)
    except FusepkgError as exc:
        log.warning("the index of %s cannot be built anew from its own manifest: %s", top_hash, exc.message)
        return None


def check_index(index: Index) -> None:
    """Check every byte that a mount may use. Raises IndexDamaged."""
    for offset in range(0, index.image.size, _CHECKED_BYTES):
        index.image.read(offset, _CHECKED_BYTES)
    index.entries.check()


def _read(directory: Path) -> Index:
    image, entries = open_files(directory)
    header = entries.package_header()
    return Index(directory, header, image.top_hash, image, entries, entries.total_bytes, entries.data_blocks)
