"""Copying one object into a bucket: by the server where it can, through this machine otherwise.

Safe from many threads.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg.errors import CopyUnsupported, DigestMismatch
from fusepkg.fetch.verified import ExpectedObject, take_object
from fusepkg.model.checksums import matches_checksums

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.publish.upload.blobs import StoredBlob
    from fusepkg.store.protocol import ObjectInfo, ObjectStore
    from fusepkg.work.threads import StopFlag


def copy_blob(
    blob: StoredBlob,
    store: ObjectStore,
    key: str,
    metadata: Mapping[str, str],
    open_place: Callable[[PhysicalKey], tuple[ObjectStore, str]],
    stop: StopFlag,
) -> ObjectInfo:
    """Copy an object to a free key of a bucket.

    Raises: ObjectExists where the key is not free, DigestMismatch or FileChanged where the object is not what it was.
    """
    if blob.temporary is not None:
        return store.create(key, blob.temporary, metadata=metadata)
    try:
        copied = store.copy(blob.place, key, size=blob.size, etag=blob.etag, metadata=metadata)
    except CopyUnsupported:
        return _copy_through_here(blob, store, key, metadata, open_place, stop)
    if matches_checksums(blob.size, copied.checksums, blob.hashed.digest) is False:
        raise _changed(blob)
    return copied


def _copy_through_here(
    blob: StoredBlob,
    store: ObjectStore,
    key: str,
    metadata: Mapping[str, str],
    open_place: Callable[[PhysicalKey], tuple[ObjectStore, str]],
    stop: StopFlag,
) -> ObjectInfo:
    with tempfile.NamedTemporaryFile(prefix="fusepkg-copy-") as file:

        def write(pieces: Iterator[bytes]) -> None:
            file.seek(0)
            file.truncate()
            for piece in pieces:
                stop.check()
                file.write(piece)
            file.flush()

        try:
            take_object(ExpectedObject(blob.place, blob.size, blob.hashed.digest), open_place, write)
        except DigestMismatch as exc:
            raise _changed(blob) from exc
        return store.create(key, Path(file.name), metadata=metadata)


def _changed(blob: StoredBlob) -> DigestMismatch:
    return DigestMismatch(
        f"{blob.place.readable} does not hold the bytes that its package names",
        hint="It was overwritten since: restore it, or leave out that entry",
    )
