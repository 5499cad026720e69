"""A folder as a version of a package: its header, its entries, and the top hash they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fusepkg.errors import UsageError
from fusepkg.model.entry import Entry, meta_for
from fusepkg.model.manifest import FORMAT_VERSION, write_header
from fusepkg.model.physical_key import PhysicalKey
from fusepkg.model.tophash import TopHash
from fusepkg.publish.folder import scan_folder
from fusepkg.publish.hash.files import hash_files
from fusepkg.publish.upload.blobs import Blob
from fusepkg.work.progress import Counters, Phase, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from fusepkg_cache.digest import Digest

    from fusepkg.publish.folder import Scan
    from fusepkg.publish.hash.files import Hashed
    from fusepkg.state.hints import Remembered
    from fusepkg.work.progress import ProgressCallback
    from fusepkg.work.threads import StopFlag

_NOWHERE = PhysicalKey("file", "", "/")
"""Stands for the physical key while only the top hash is computed, which does not cover it."""


@dataclass(frozen=True, slots=True)
class Contents:
    """A hashed folder. ``hashed`` has the digest of each of ``scan.files``, in the same (tree) order."""

    header: Mapping[str, Any]
    scan: Scan
    hashed: list[Hashed]
    top_hash: str

    def entries(self, place: Callable[[Digest], PhysicalKey]) -> Iterator[Entry]:
        """The entries of the manifest, in tree order; ``place`` says where the bytes of a digest lie."""
        return _entries(self.scan, self.hashed, place)

    def blobs(self) -> list[Blob]:
        """The distinct contents; the first file in tree order stands for those that share one."""
        seen: dict[Digest, Blob] = {}
        for file, hashed in zip(self.scan.files, self.hashed, strict=True):
            seen.setdefault(hashed.digest, Blob(file, hashed))
        return list(seen.values())


def make_header(message: str | None, user_meta: Mapping[str, Any] | None) -> dict[str, Any]:
    """The header quilt3's command line writes: all three keys, null where nothing was given."""
    if not (user_meta is None or isinstance(user_meta, dict)):
        raise UsageError("The metadata of a package is not a JSON object", hint='Write, for example, {"source": "web"}')
    header = {"version": FORMAT_VERSION, "user_meta": user_meta, "message": message}
    write_header(header)  # what JSON cannot hold is refused before any work
    return header


def read_folder(
    directory: Path,
    header: Mapping[str, Any],
    *,
    follow_symlinks: bool = False,
    remembered: Remembered | None = None,
    stop: StopFlag | None = None,
    progress: ProgressCallback = no_progress,
) -> Contents:
    """Scan and hash a folder. Raises FolderUnfit, FileChanged."""
    scanning = Counters(progress, Phase.SCAN)
    scan = scan_folder(directory, follow_symlinks)
    scanning.add(len(scan.files), scan.total_bytes)
    hashed = hash_files(scan.files, remembered=remembered, stop=stop, progress=progress)
    top_hash = TopHash(header)
    for entry in _entries(scan, hashed, lambda _: _NOWHERE):
        top_hash.update(entry)
    return Contents(header, scan, hashed, top_hash.hexdigest())


def _entries(scan: Scan, hashed: list[Hashed], place: Callable[[Digest], PhysicalKey]) -> Iterator[Entry]:
    for file, one in zip(scan.files, hashed, strict=True):
        meta = meta_for(file.kind, symlink=file.link)
        yield Entry(file.logical_key, place(one.digest), file.size, one.digest, meta)
