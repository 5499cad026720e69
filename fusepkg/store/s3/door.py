"""The door to S3: an ObjectStore that imports client libraries, and makes clients, at its first call.

A command that never talks to S3 does not pay for them, and a forked child gets clients of its own.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from fusepkg.model.physical_key import PhysicalKey
from fusepkg.store.protocol import AT_MOST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from fusepkg.store.protocol import AsyncReads, Deliver, ObjectInfo
    from fusepkg.store.s3.bucket import Bucket
    from fusepkg.store.s3.settings import S3Settings


class S3Store:
    """One bucket. Safe for many threads; a forked child gets clients of its own at its first call."""

    def __init__(self, bucket: str, settings: S3Settings) -> None:
        self.bucket = bucket
        self._settings = settings
        self._opened: Bucket | None = None
        self._lock = threading.Lock()

    def _open(self) -> Bucket:
        """The bucket as this process talks to it."""
        opened = self._opened
        if opened is None or opened.pid != os.getpid():
            with self._lock:
                opened = self._opened
                if opened is None or opened.pid != os.getpid():
                    from fusepkg.store.s3.bucket import Bucket

                    opened = self._opened = Bucket(self.bucket, self._settings)
        return opened

    def get(
        self,
        key: str,
        *,
        version: str | None = None,
        offset: int = 0,
        length: int | None = None,
        at_most: int = AT_MOST_BYTES,
    ) -> bytes:
        """See ObjectStore."""
        return self._open().get(key, version, offset, length, at_most)

    def open_reads(self, deliver: Deliver) -> AsyncReads:
        """See ObjectStore."""
        from fusepkg.store.s3.async_reads import S3Reads

        return S3Reads(self._open, deliver)

    def stream(self, key: str, *, version: str | None = None, piece_bytes: int) -> Iterator[bytes]:
        """See ObjectStore. Where the connection breaks, another GET goes on from there."""
        yield from self._open().stream(key, version, piece_bytes)

    def head(self, key: str, *, version: str | None = None) -> ObjectInfo:
        """See ObjectStore."""
        return self._open().head(key, version)

    def part_bytes(self, key: str, *, version: str | None = None) -> list[int] | None:
        """See ObjectStore."""
        return self._open().part_bytes(key, version)

    def list(self, prefix: str, *, limit: int | None = None) -> Iterator[ObjectInfo]:
        """See ObjectStore."""
        yield from self._open().list(prefix, limit)

    def list_versions(self, prefix: str) -> Iterator[ObjectInfo]:
        """See ObjectStore."""
        yield from self._open().list_versions(prefix)

    def list_directories(self, prefix: str) -> Iterator[str]:
        """See ObjectStore."""
        yield from self._open().list_directories(prefix)

    def create(self, key: str, source: bytes | Path, *, metadata: Mapping[str, str] | None = None) -> ObjectInfo:
        """See ObjectStore. Where ``source`` is a file that cannot be read, the OSError passes."""
        return self._open().create(key, source, metadata or {})

    def overwrite(self, key: str, source: bytes | Path, *, metadata: Mapping[str, str] | None = None) -> ObjectInfo:
        """See ObjectStore. Where ``source`` is a file that cannot be read, the OSError passes."""
        return self._open().overwrite(key, source, metadata or {})

    def copy(
        self,
        source: PhysicalKey,
        key: str,
        *,
        size: int,
        etag: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> ObjectInfo:
        """See ObjectStore. Where S3 computes checksums of what it copied, the answer has them."""
        return self._open().copy(source, key, size=size, etag=etag, metadata=metadata or {})

    def stays(self, found: ObjectInfo) -> bool:
        """See ObjectStore."""
        return self._open().stays(found)

    def sign_url(self, key: str, *, version: str | None = None, expires_s: int) -> str:
        """See ObjectStore. Seven days at most."""
        return self._open().sign_url(key, version, expires_s)

    def url(self, key: str, version: str | None = None) -> str:
        """See ObjectStore."""
        return str(PhysicalKey("s3", self.bucket, key, version))
