"""Opens the index of one version of a package; the work does not grow with the package.

A damaged index is rebuilt: when it is opened, and in the middle of reading. Mounts and programs only notice the time.
"""

from __future__ import annotations

import logging
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusepkg.errors import CacheFailure, FusepkgError, IndexDamaged
from fusepkg.index.build import discard_index, rebuild_index, take_over_index
from fusepkg.index.checked import Descriptor
from fusepkg.index.entries import EntryTable
from fusepkg.index.files import MANIFEST, index_directory, open_files
from fusepkg.index.reader import ImageReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Index:
    """One version of a package on this machine: names in ``image``, all else in ``entries``."""

    directory: Path
    header: dict[str, Any]
    top_hash: str
    image: ImageReader
    entries: EntryTable
    total_bytes: int
    data_blocks: int


def open_index(root: Path, top_hash: str, refetch: Callable[[Path], None] | None = None) -> Index | None:
    """Return the index of that version if it has been built here; None says: build it.

    Blocks are checked as they are used. A damaged index is rebuilt from the manifest kept beside it, and one that is
    damaged later from that or by ``refetch``, which is to build it below the directory it gets from the bucket.
    """
    try:
        if not index_directory(root, top_hash).is_dir() and not take_over_index(root, top_hash):
            return None
        return _read(root, top_hash, refetch)
    except IndexDamaged as exc:
        log.warning("%s; rebuilding it", exc.message)
    except CacheFailure as exc:  # of an older layout, in a cache that cannot be written
        log.warning("%s", exc.message)
        return None
    try:
        rebuild_index(root, top_hash, index_directory(root, top_hash) / MANIFEST)
        return _read(root, top_hash, refetch)
    except FusepkgError as exc:
        log.warning("the index of %s cannot be rebuilt from its own manifest: %s", top_hash, exc.message)
        discard_index(root, top_hash)
        return None


def open_or_build_index(
    root: Path, top_hash: str, build: Callable[[Path], None], rebuild: Callable[[Path], None]
) -> Index:
    """Return the index of that version, which ``build`` builds below ``root`` where it is not here, or beyond repair.

    ``rebuild`` does the same for an index that is damaged while it is in use. Raises what ``build`` raises.
    """
    index = open_index(root, top_hash, rebuild)
    if index is None:
        build(root)
        index = open_index(root, top_hash, rebuild)
        assert index is not None, "an index just built can be opened"
    return index


def check_index(index: Index) -> None:
    """Read every byte that a mount may use, repairing what is damaged. Raises IndexDamaged."""
    index.image.check()
    index.entries.check()


def _read(root: Path, top_hash: str, refetch: Callable[[Path], None] | None) -> Index:
    files = open_files(root, top_hash)
    directory = index_directory(root, top_hash)
    manifest: Descriptor | None = None
    with suppress(IndexDamaged):  # missing: only needed for a repair
        manifest = Descriptor(directory / MANIFEST)
    repair = partial(_repaired, root, top_hash, manifest, refetch)
    files.image.repair = files.entries.repair = repair
    image, entries = ImageReader(files.image), EntryTable(files.entries)
    if not top_hash == image.top_hash == entries.top_hash or image.data_blocks != entries.data_blocks:
        raise IndexDamaged(f"the files in {directory} do not belong together")
    header = entries.package_header()
    return Index(directory, header, top_hash, image, entries, entries.total_bytes, entries.data_blocks)


@contextmanager
def _repaired(
    root: Path, top_hash: str, manifest: Descriptor | None, refetch: Callable[[Path], None] | None
) -> Iterator[Path]:
    """Rebuild an index that is in use; yield the directory with its new files, which may be gone after the block.

    Raises FusepkgError if there is neither a good manifest here nor in the bucket.
    """

    def rebuild(where: Path) -> Path:
        try:
            if manifest is None:
                raise IndexDamaged(f"the manifest of {top_hash} is not kept here")
            # Not by its name: the file may be gone, and the descriptor reads it still.
            rebuild_index(where, top_hash, Path(f"/proc/self/fd/{manifest.number}"))
        except IndexDamaged:
            if refetch is None:
                raise
            discard_index(where, top_hash)
            refetch(where)
        return index_directory(where, top_hash)

    with ExitStack() as stack:
        try:
            directory = rebuild(root)
        except CacheFailure as exc:
            log.warning("%s; the index is rebuilt in a temporary directory", exc.message)
            try:
                temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="fusepkg-index-"))
            except OSError as error:
                raise CacheFailure(f"there is no room for an index: {error}", hint="Set TMPDIR") from error
            directory = rebuild(Path(temporary))
        yield directory
