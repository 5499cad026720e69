"""Open the index of a version: fetch the manifest and build the index, once per top hash.

The bucket is needed only until the index has been built here.
"""

from __future__ import annotations

import hashlib
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from fusepkg.errors import CacheFailure
from fusepkg.index.build import build_index
from fusepkg.index.files import index_directory
from fusepkg.index.opening import open_or_build_index
from fusepkg.model.reference import DVC
from fusepkg.registry.layout import Layout, manifest_key
from fusepkg.registry.manifests import fetch_manifest
from fusepkg.state.known_indexes import note_package
from fusepkg.work.scratch import scratch_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fusepkg.index.opening import Index
    from fusepkg.model.reference import Reference
    from fusepkg.registry.resolve import Resolved
    from fusepkg.store.protocol import ObjectStore

_SCRATCH = "manifest-"
"""How temporary directories begin."""

_FOUND_IN = "layout"
"""File beside those of an index: a word that says in which of the bucket's layouts its manifest was found."""


@dataclass(frozen=True, slots=True)
class OpenedPackage:
    """One version of a package, ready to be read.

    ``index_root`` is where its index lies, ``where`` the layout of the bucket in which its manifest was found.
    """

    resolved: Resolved
    index: Index
    index_root: Path
    where: Layout

    @property
    def manifest_key(self) -> str:
        """Where in the bucket its manifest lies."""
        return manifest_key(self.resolved.reference.name, self.resolved.top_hash, self.where)


def index_root_for(indexes: Path, store: ObjectStore, name: str) -> Path:
    """Where the indexes of one package of one registry lie.

    Apart from those of others, because a top hash does not cover physical keys: the same content pushed to two
    buckets has one top hash and two sets of objects.
    """
    registry = hashlib.sha256(f"{store.url('')}\n{name}".encode()).hexdigest()[:16]
    return indexes / registry


def has_index(indexes: Path, store: ObjectStore, name: str, top_hash: str) -> bool:
    """Return whether the index of a version has been built there, damaged or not."""
    return index_directory(index_root_for(indexes, store, name), top_hash).is_dir()


def forget_index(indexes: Path, store: ObjectStore, name: str, top_hash: str) -> None:
    """Remove the index of a version whose manifest names other objects now; the next opening builds it again.

    Programs that have it open can read on.
    """
    shutil.rmtree(index_directory(index_root_for(indexes, store, name), top_hash), ignore_errors=True)


def open_package(
    store: ObjectStore, resolved: Resolved, indexes: Path, progress: Callable[[str, int, int], None]
) -> OpenedPackage:
    """Open one version of a package. ``progress`` hears what is done, how much of it, and of how much (0: unknown).

    Raises PackageError, RemoteError, IntegrityError, CacheFailure.
    """
    reference, top_hash = resolved.reference, resolved.top_hash
    root = index_root_for(indexes, store, reference.name)
    build = partial(_build, store, resolved)
    with _disk_errors_as_ours(root):
        index = open_or_build_index(root, top_hash, partial(build, progress), partial(build, _no_steps))
    note_package(root, reference)
    return OpenedPackage(resolved, index, root, _found_in(index.directory) or resolved.where or Layout.FUSEPKG)


def _no_steps(_what: str, _done: int, _total: int) -> None:
    return None


def _build(store: ObjectStore, resolved: Resolved, progress: Callable[[str, int, int], None], root: Path) -> None:
    """Fetch the manifest of a version, and build its index below ``root``."""
    reference, top_hash = resolved.reference, resolved.top_hash
    with _disk_errors_as_ours(root), scratch_directory(root, _SCRATCH) as scratch:
        manifest = scratch / "manifest.jsonl"
        progress("Fetching the manifest", 0, 0)
        where = fetch_manifest(store, reference.name, top_hash, manifest, first=resolved.where or Layout.FUSEPKG)
        tell = partial(progress, "Building the index")
        index_manifest(manifest, reference, top_hash, root, where, tell)


def index_manifest(
    manifest: Path,
    reference: Reference,
    top_hash: str,
    index_root: Path,
    where: Layout,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Build the index of a manifest that is at hand, and lies in the bucket in that layout.

    Raises ManifestInvalid, UnsupportedFormat, DigestMismatch, CacheFailure.
    """
    build_index(
        manifest,
        index_root,
        expected_top_hash=top_hash,
        allow_file_keys=reference.bucket.scheme != "s3",
        allow_md5=reference.bucket.scheme == DVC,
        progress=progress,
    )
    with suppress(OSError):  # a full disk: the index is whole without it
        (index_directory(index_root, top_hash) / _FOUND_IN).write_text(where.value)


def _found_in(index: Path) -> Layout | None:
    """The layout the manifest of an index was found in; None if not recorded."""
    try:
        return Layout((index / _FOUND_IN).read_text())
    except (OSError, ValueError):
        return None


@contextmanager
def _disk_errors_as_ours(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise CacheFailure(
            f"the cache directory {directory} cannot be used: {exc.strerror or exc}",
            hint="Free some space or give it back to its user, or name another cache with --cache-dir",
        ) from exc
