"""Uploading many blobs, in threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusepkg.errors import BucketNotFound
from fusepkg.publish.upload.upload import Uploader
from fusepkg.registry.layout import ROOT
from fusepkg.registry.manifests import names_local_files
from fusepkg.work.threads import run_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.publish.upload.blobs import LocalBlob, StoredBlob
    from fusepkg.publish.upload.presence import Presence
    from fusepkg.publish.upload.upload import Uploaded
    from fusepkg.store.protocol import ObjectStore
    from fusepkg.work.threads import StopFlag

UPLOAD_THREADS = 16
"""Concurrent uploads: enough to hide a round trip of 50 ms behind small objects, and to fill a fast link."""

LIST_ABOVE_UPLOADS = 1_000
"""More uploads than this and one listing of the prefix, a request per 1,000 keys, beats a HEAD for each."""


def is_new_directory(store: ObjectStore) -> bool:
    """Return whether a registry is a directory that the first object will make; until then it cannot be asked."""
    if not names_local_files(store):
        return False
    try:
        any(store.list(ROOT, limit=1))
    except BucketNotFound:
        return True
    return False


def upload_blobs(
    blobs: Iterable[LocalBlob | StoredBlob],
    uploaded: Callable[[Uploaded], None],
    store: ObjectStore,
    prefix: str,
    *,
    count: int,
    stop: StopFlag,
    open_place: Callable[[PhysicalKey], tuple[ObjectStore, str]] | None = None,
    broken: Container[str] = frozenset(),
    presence: Presence | None = None,
) -> None:
    """Upload ``count`` blobs below a prefix; ``uploaded`` hears of each, in the calling thread, as it is done.

    ``broken`` are the physical keys of objects that do not hold what they say; ``presence`` looks at what is there.

    Raises: FileChanged, DigestMismatch, ObjectCollision, and what stores raise.
    """
    listed: dict[str, int] | None = {} if is_new_directory(store) else None
    if listed is None and count > LIST_ABOVE_UPLOADS:
        listed = {info.key: info.size for info in store.list(f"{prefix}/")}
    uploader = Uploader(store, prefix, listed, stop, open_place, broken, presence)
    run_threads(uploader.upload, blobs, uploaded, threads=UPLOAD_THREADS, name="fusepkg-upload", stop=stop)
