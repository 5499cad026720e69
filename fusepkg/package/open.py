"""From a reference to an opened index: resolve, fetch the manifest, build the index, once per top hash.

A tag needs the bucket. When that cannot be reached, the version the tag named when this machine last asked is used,
and the result says so; a whole hash needs the bucket only until its index has been built here.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg.errors import BucketNotFound, CacheFailure, RemoteUnavailable
from fusepkg.index.build import build_index
from fusepkg.index.files import index_directory
from fusepkg.index.opening import open_index
from fusepkg.model.reference import DVC
from fusepkg.registry.layout import Layout, manifest_key
from fusepkg.registry.manifests import fetch_manifest
from fusepkg.registry.resolve import Resolved, resolve
from fusepkg.state.known_indexes import note_package
from fusepkg.work.scratch import scratch_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fusepkg.index.opening import Index
    from fusepkg.model.reference import Reference
    from fusepkg.state.hints import Hints
    from fusepkg.store.protocol import ObjectStore

log = logging.getLogger(__name__)

_SCRATCH = "manifest-"
"""How temporary directories begin."""

_FOUND_IN = "layout"
"""File beside those of an index: a word that says in which of the bucket's layouts its manifest was found."""


@dataclass(frozen=True, slots=True)
class OpenedPackage:
    """One version of a package, ready to be read.

    ``index_root`` is where its index lies; ``offline_since_s`` when its tag was last seen to name it (Unix time), where
    the bucket could not be asked this time; ``manifest_key`` where in the bucket the manifest was found.
    """

    resolved: Resolved
    index: Index
    index_root: Path
    offline_since_s: float | None
    manifest_key: str


def resolve_or_remember(store: ObjectStore, reference: Reference, hints: Hints) -> tuple[Resolved, float | None]:
    """Resolve a reference, from memory where the bucket cannot be reached; gives that memory's time, or None.

    Raises what ``resolve`` raises; RemoteUnavailable where nothing is remembered.
    """
    registry = store.url("")
    try:
        resolved = resolve(store, reference)
    except (RemoteUnavailable, BucketNotFound) as exc:
        if isinstance(exc, BucketNotFound) and reference.bucket.scheme == "s3":
            raise  # S3 has answered; a directory that is not there is a disk that is not
        last = hints.tag(registry, reference.name, reference.tag) if reference.top_hash is None else None
        if last is None:
            raise
        log.warning("%s; using the version %s was last seen to name", exc.message, reference)
        return Resolved(reference, last.top_hash, reference.tag), last.time
    if resolved.tag is not None:
        hints.remember_tag(registry, reference.name, resolved.tag, resolved.top_hash)
    return resolved, None


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
    store: ObjectStore,
    reference: Reference,
    indexes: Path,
    hints: Hints,
    progress: Callable[[str, int, int], None],
) -> OpenedPackage:
    """Open one version of a package. ``progress`` hears what is done, how much of it, and of how much (0: unknown).

    Raises PackageError, RemoteError, IntegrityError, CacheFailure.
    """
    progress(f"Resolving {reference}", 0, 0)
    resolved, offline_since_s = resolve_or_remember(store, reference, hints)
    index_root = index_root_for(indexes, store, reference.name)

    def refetch(where: Path) -> None:
        _build(store, resolved, where, lambda _what, _done, _total: None)

    index = _open(index_root, resolved.top_hash, refetch)
    if index is None:
        _build(store, resolved, index_root, progress)
        index = _open(index_root, resolved.top_hash, refetch)
        assert index is not None, "an index just built can be opened"
    note_package(index_root, reference)
    where = _found_in(index.directory) or resolved.where or Layout.FUSEPKG
    key = manifest_key(reference.name, resolved.top_hash, where)
    return OpenedPackage(resolved, index, index_root, offline_since_s, key)


def _open(index_root: Path, top_hash: str, refetch: Callable[[Path], None]) -> Index | None:
    with _disk_errors_as_ours(index_root):
        return open_index(index_root, top_hash, refetch)


def _build(store: ObjectStore, resolved: Resolved, index_root: Path, progress: Callable[[str, int, int], None]) -> None:
    reference = resolved.reference
    with _disk_errors_as_ours(index_root), scratch_directory(index_root, _SCRATCH) as scratch:
        manifest = scratch / "manifest.jsonl"
        progress("Fetching the manifest", 0, 0)
        first = resolved.where or Layout.FUSEPKG
        where = fetch_manifest(store, reference.name, resolved.top_hash, manifest, first=first)
        index_manifest(
            manifest,
            reference,
            resolved.top_hash,
            index_root,
            where,
            lambda done, total: progress("Building the index", done, total),
        )


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
