"""Stores for drafts and pushes of tests: in memory, or whichever a test has made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg.store.directory import DirectoryStore
from fusepkg.store.opening import StoreSet
from fusepkg.store.s3 import S3Settings

if TYPE_CHECKING:
    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.model.reference import BucketUrl
    from fusepkg.store.protocol import ObjectStore


class GivenStores(StoreSet):
    """A StoreSet whose buckets are the stores given; the first is every registry's."""

    def __init__(self, registry: ObjectStore, **buckets: ObjectStore) -> None:
        super().__init__(S3Settings(), Path("/nonexistent"))
        self._registry = registry
        self._given = buckets

    def for_bucket(self, bucket: BucketUrl) -> ObjectStore:
        return self._given.get(bucket.place, self._registry)

    def for_key(self, physical_key: PhysicalKey) -> tuple[ObjectStore, str]:
        if physical_key.scheme == "file":
            return DirectoryStore(Path("/"), verbatim=True), physical_key.key.removeprefix("/")
        return self._given.get(physical_key.bucket, self._registry), physical_key.key
