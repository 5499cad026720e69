"""From the name of a bucket, or of one object, to its store."""

from __future__ import annotations

import hashlib
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg.model.reference import DVC, LOCAL_BUCKET
from fusepkg.store.directory import DirectoryStore
from fusepkg.store.s3 import S3Store

if TYPE_CHECKING:
    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.model.reference import BucketUrl
    from fusepkg.store.protocol import ObjectStore
    from fusepkg.store.s3 import S3Settings


def open_store(bucket: BucketUrl, settings: S3Settings, data_dir: Path) -> ObjectStore:
    """The store of a registry. Nothing is asked of it yet, so nothing is raised for one that does not exist."""
    if bucket.scheme == LOCAL_BUCKET:
        return DirectoryStore(data_dir / "local", private=True)
    if bucket.scheme == "file":
        return DirectoryStore(Path(bucket.place))
    if bucket.scheme == DVC:
        known = hashlib.sha256(bucket.place.encode()).hexdigest()[:16]
        return DirectoryStore(data_dir / "dvc" / known, private=True)
    return S3Store(bucket.place, settings)


def abandon_uploads() -> None:
    """For a process that ends now, whatever its threads do: have servers drop what is half uploaded, if they answer."""
    if writing := sys.modules.get("fusepkg.store.s3.write"):  # else nothing was uploaded
        writing.abandon()


class StoreSet:
    """Stores of registries and of the objects that manifests name, one per bucket. Safe for many threads."""

    def __init__(self, settings: S3Settings, data_dir: Path) -> None:
        self._settings = settings
        self._data_dir = data_dir
        self._lock = threading.Lock()
        self._files = DirectoryStore(Path("/"), verbatim=True)
        self._buckets: dict[str, S3Store] = {}
        self._options: dict[str, S3Settings] = {}

    def use_settings(self, bucket: str, settings: S3Settings) -> None:
        """Use other settings for one bucket, from the next time its store is asked for."""
        with self._lock:
            if self._options.get(bucket) != settings:
                self._options[bucket] = settings
                self._buckets.pop(bucket, None)

    def for_bucket(self, bucket: BucketUrl) -> ObjectStore:
        """The store of a registry."""
        if bucket.scheme != "s3":
            return open_store(bucket, self._settings, self._data_dir)
        return self._s3(bucket.place)

    def for_key(self, physical_key: PhysicalKey) -> tuple[ObjectStore, str]:
        """The store an object lies in, and its key there."""
        if physical_key.scheme == "file":
            return self._files, physical_key.key.removeprefix("/")
        return self._s3(physical_key.bucket), physical_key.key

    def _s3(self, bucket: str) -> S3Store:
        with self._lock:
            if bucket not in self._buckets:
                self._buckets[bucket] = S3Store(bucket, self._options.get(bucket, self._settings))
            return self._buckets[bucket]
