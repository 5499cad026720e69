"""Bringing many blobs into a bucket, in threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusepkg.errors import BucketNotFound
from fusepkg.publish.upload.upload import Placing
from fusepkg.registry.layout import ROOT
from fusepkg.registry.manifests import names_local_files
from fusepkg.work.progress import Counters, Phase
from fusepkg.work.threads import run_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.publish.upload.blobs import Blob, StoredBlob
    from fusepkg.publish.upload.upload import Placed
    from fusepkg.store.protocol import ObjectStore
    from fusepkg.work.progress import ProgressCallback
    from fusepkg.work.threads import StopFlag

UPLOAD_THREADS = 16
"""Concurrent uploads: enough to hide a round trip of 50 ms behind small objects, and to fill a fast link."""

LIST_ABOVE_UPLOADS = 1_000
"""More uploads than this and one listing of the prefix, a request per 1,000 keys, beats a HEAD for each."""


def is_new_directory(store: ObjectStore) -> bool:
    """Whether a registry is a directory that the first object will make; until then it cannot be asked anything."""
    if not names_local_files(store):
        return False
    try:
        any(store.list(ROOT, limit=1))
    except BucketNotFound:
        return True
    return False


def place_blobs(
    blobs: Sequence[Blob | StoredBlob],
    store: ObjectStore,
    prefix: str,
    *,
    is_new: bool,
    stop: StopFlag,
    progress: ProgressCallback,
    open_place: Callable[[PhysicalKey], tuple[ObjectStore, str]] | None = None,
    report: Callable[[Placed], None] | None = None,
) -> list[Placed]:
    """Place every blob below a prefix; ``is_new`` for a directory that the first of them will make.

    ``report`` hears of each as it is done.

    Raises: FileChanged, DigestMismatch, ObjectCollision, and what stores raise.
    """
    counters = Counters(progress, Phase.UPLOAD, total=len(blobs), total_bytes=sum(blob.size for blob in blobs))
    listed: dict[str, int] | None = {} if is_new else None
    if listed is None and len(blobs) > LIST_ABOVE_UPLOADS:
        listed = {info.key: info.size for info in store.list(f"{prefix}/")}
    placing = Placing(store, prefix, listed, stop, open_place)
    done: list[Placed] = []

    def collect(placed: Placed) -> None:
        done.append(placed)
        counters.add(1, placed.blob.size)
        if report is not None:
            report(placed)

    run_threads(placing.place, blobs, collect, threads=UPLOAD_THREADS, name="fusepkg-upload", stop=stop)
    return done
