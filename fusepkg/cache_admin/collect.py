"""Garbage collection: drop blobs and indexes of versions that no tag, mount or pin names.

Versions of a bucket that does not answer, and indexes of an unknown package, are kept. So are blobs put or read
meanwhile: they may belong to a version that is being opened.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg.errors import PackageError, PackageNotFound, RemoteError
from fusepkg.fetch.chunks import cached_digests
from fusepkg.index.opening import open_index
from fusepkg.package.open import index_root_for
from fusepkg.registry.catalogue import list_tags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from fusepkg_cache import Cache, Cleared
    from fusepkg_cache.digest import Digest

    from fusepkg.model.reference import BucketUrl
    from fusepkg.state.known_indexes import KnownPackage
    from fusepkg.store.protocol import ObjectStore


@dataclass(frozen=True, slots=True)
class Collected:
    """What was dropped, or would be: versions whose indexes go, and blobs; ``unasked`` says which packages were kept
    because their bucket gave no answer, and why."""

    versions: tuple[tuple[KnownPackage, str], ...]
    blobs: Cleared
    unasked: tuple[tuple[KnownPackage, str], ...]


def collect(
    cache: Cache,
    packages: Callable[[], Iterable[KnownPackage]],
    tagged: Callable[[KnownPackage], set[str]],
    in_use: Callable[[KnownPackage, str], bool],
    *,
    dry_run: bool,
) -> Collected:
    """Drop what nothing names.

    ``packages`` lists what has an index here. ``tagged`` asks for the top hashes that a package's tags name
    (RemoteError and PackageError: it cannot be asked); ``in_use`` says of a version whether it stays whatever tags say.

    Raises CacheUnusable.
    """
    dropped: list[tuple[KnownPackage, str]] = []
    unasked: list[tuple[KnownPackage, str]] = []

    def kept() -> Iterator[Digest]:
        """Read by the cache once it notes what is put and read: nothing can come in between."""
        for package in packages():
            try:
                named = tagged(package)
            except (RemoteError, PackageError) as exc:
                unasked.append((package, exc.message))
                named = set(package.top_hashes)
            for top_hash in package.top_hashes:
                if top_hash in named or in_use(package, top_hash):
                    yield from _digests(cache, package, top_hash)
                else:
                    dropped.append((package, top_hash))

    blobs = cache.retain(kept(), dry_run=dry_run)
    if not dry_run:
        for package, top_hash in dropped:
            shutil.rmtree(package.directory(top_hash), ignore_errors=True)
    return Collected(tuple(dropped), blobs, tuple(unasked))


def _digests(cache: Cache, package: KnownPackage, top_hash: str) -> Iterator[Digest]:
    index = open_index(package.root, top_hash)
    if index is not None:
        yield from cached_digests(cache, index.entries.contents())


def tagged_versions(package: KnownPackage, indexes: Path, store_of: Callable[[BucketUrl], ObjectStore]) -> set[str]:
    """The top hashes that a package's tags name. Raises RemoteError and PackageError where they cannot be asked for."""
    if package.bucket is None:
        raise PackageNotFound("nobody knows any more which package that is")
    store = store_of(package.bucket)
    if index_root_for(indexes, store, package.name) != package.root:
        raise PackageNotFound(f"it is of another place that was called {package.bucket}")
    return {named.top_hash for named in list_tags(store, package.name)}
