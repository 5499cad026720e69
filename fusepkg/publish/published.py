"""Whether a version is in its bucket already, all of it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg_cache.digest import Algorithm, Digest, chunk_count

from fusepkg.errors import HashNotFound, ManifestInvalid, UnsupportedFormat
from fusepkg.model.manifest import read_manifest
from fusepkg.model.record import EntryRecord
from fusepkg.publish.upload.presence import NamedObject, Presence
from fusepkg.registry.layout import chunk_list_key
from fusepkg.registry.manifests import compute_top_hash, fetch_manifest, names_local_files
from fusepkg.work.threads import StopFlag

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusepkg.registry.layout import Layout

_PIECE_BYTES = 1 << 20


def is_whole(presence: Presence, name: str, top_hash: str, where: Layout) -> bool:
    """Return whether the manifest of a version is right, and all it names lies in the bucket, as ``presence`` checks.

    False also where it names anything out of the bucket, and where the manifest lies in another layout.
    """
    store = presence.store
    here = store.url("~")[:-1]
    with tempfile.TemporaryDirectory(prefix="fusepkg-push-") as scratch:
        manifest = Path(scratch, "manifest")
        try:
            if fetch_manifest(store, name, top_hash, manifest, first=where) is not where:
                return False
            if compute_top_hash(manifest, allow_file_keys=names_local_files(store)) != top_hash:
                return False
        except (HashNotFound, ManifestInvalid, UnsupportedFormat):
            return False
        is_elsewhere = False

        def objects() -> Iterator[NamedObject]:
            nonlocal is_elsewhere
            for named in _objects(manifest):
                is_elsewhere = is_elsewhere or not named.url.startswith(here)
                yield named
                digest = named.digest
                if chunk_count(named.size) > 1 and digest and digest.algorithm is Algorithm.SHA2_256_CHUNKED:
                    size = chunk_count(named.size) * len(digest.value)
                    yield NamedObject(store.url(chunk_list_key(digest)), size)

        broken = presence.find_broken(objects, StopFlag())
        return not (broken or is_elsewhere)


def _objects(manifest: Path) -> Iterator[NamedObject]:
    with manifest.open("rb") as file:
        pieces = iter(lambda: file.read(_PIECE_BYTES), b"")
        for record in read_manifest(pieces, allow_file_keys=True).records:
            if isinstance(record, EntryRecord):
                yield NamedObject(record.url.decode(), record.size, Digest(record.algorithm, record.value))
