"""Memory as an ObjectStore: for tests, and the shortest statement of what a store does.

Safe for many threads; gone with the process.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg.errors import CopyUnsupported, FileChanged, ObjectExists, ObjectMissing
from fusepkg.model.checksums import Checksums
from fusepkg.model.physical_key import PhysicalKey
from fusepkg.store.protocol import AT_MOST_BYTES, CHANGED_HINT, ObjectInfo, directories_of, too_large
from fusepkg.store.threaded_reads import ThreadedReads

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fusepkg.store.protocol import AsyncReads, Deliver


@dataclass(frozen=True, slots=True)
class _Object:
    data: bytes
    info: ObjectInfo


class MemoryStore:
    """A bucket that always exists.

    With ``versioned`` it keeps every version of every object; with ``checksums`` it tells checksums, as S3 does of
    objects that were sent with SHA-256 in one request.
    """

    def __init__(self, bucket: str = "memory", *, versioned: bool = False, checksums: bool = False) -> None:
        self.bucket = bucket
        self._versioned = versioned
        self._tells_checksums = checksums
        self._numbers = count(1)
        self._lock = threading.Lock()
        self._objects: dict[str, list[_Object]] = {}  # oldest first

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
        data = self._find(key, version).data
        if length is None and len(data) - offset > at_most:
            raise too_large(self.url(key, version), at_most)
        return data[offset:] if length is None else data[offset : offset + length]

    def open_reads(self, deliver: Deliver) -> AsyncReads:
        """See ObjectStore."""
        return ThreadedReads(self.get, deliver)

    def stream(self, key: str, *, version: str | None = None, piece_bytes: int) -> Iterator[bytes]:
        """See ObjectStore."""
        data = self._find(key, version).data
        for at in range(0, len(data), piece_bytes):
            yield data[at : at + piece_bytes]

    def head(self, key: str, *, version: str | None = None) -> ObjectInfo:
        """See ObjectStore."""
        found = self._find(key, version)
        return replace(found.info, checksums=self._checksums(found.data), etag=_etag(found.data))

    def part_bytes(self, key: str, *, version: str | None = None) -> list[int] | None:
        """See ObjectStore."""
        self._find(key, version)
        return None

    def list(self, prefix: str, *, limit: int | None = None) -> Iterator[ObjectInfo]:
        """See ObjectStore."""
        for info in islice(self.list_versions(prefix), limit):
            yield replace(info, version=None)

    def list_versions(self, prefix: str) -> Iterator[ObjectInfo]:
        """See ObjectStore."""
        with self._lock:
            found = [versions[-1].info for key, versions in self._objects.items() if key.startswith(prefix)]
        found.sort(key=lambda info: info.key.encode())
        for info in found:
            yield ObjectInfo(info.key, info.size, info.version)

    def list_directories(self, prefix: str) -> Iterator[str]:
        """See ObjectStore."""
        return iter(directories_of(self.list(prefix), prefix))

    def create(self, key: str, source: bytes | Path, *, metadata: Mapping[str, str] | None = None) -> ObjectInfo:
        """See ObjectStore."""
        return self._write(key, source, metadata, exclusive=True)

    def copy(
        self,
        source: PhysicalKey,
        key: str,
        *,
        size: int,
        etag: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> ObjectInfo:
        """See ObjectStore."""
        if (source.scheme, source.bucket) != ("s3", self.bucket):
            raise CopyUnsupported(f"{source} does not lie in {self.url('')}")
        data = self._find(source.key, source.version).data
        if len(data) != size:
            raise FileChanged(f"{source} has {len(data)} bytes instead of {size}", hint=CHANGED_HINT)
        if etag not in (None, _etag(data)):
            raise FileChanged(f"{source} changed", hint=CHANGED_HINT)
        return replace(self.create(key, data, metadata=metadata), checksums=self._checksums(data))

    def stays(self, found: ObjectInfo) -> bool:
        """See ObjectStore."""
        return True

    def overwrite(self, key: str, source: bytes | Path, *, metadata: Mapping[str, str] | None = None) -> ObjectInfo:
        """See ObjectStore."""
        return self._write(key, source, metadata, exclusive=False)

    def sign_url(self, key: str, *, version: str | None = None, expires_s: int) -> str:
        """See ObjectStore."""
        return self.url(key, version)

    def url(self, key: str, version: str | None = None) -> str:
        """See ObjectStore."""
        return str(PhysicalKey("s3", self.bucket, key, version))

    def _checksums(self, data: bytes) -> Checksums | None:
        return Checksums(sha256=hashlib.sha256(data).digest()) if self._tells_checksums else None

    def _find(self, key: str, version: str | None) -> _Object:
        with self._lock:
            for found in reversed(self._objects.get(key, ())):
                if version in (None, found.info.version):
                    return found
        raise ObjectMissing(f"{self.url(key, version)} is not there")

    def _write(
        self, key: str, source: bytes | Path, metadata: Mapping[str, str] | None, *, exclusive: bool
    ) -> ObjectInfo:
        data = source.read_bytes() if isinstance(source, Path) else bytes(source)
        with self._lock:
            versions = self._objects.setdefault(key, [])
            if exclusive and versions:
                raise ObjectExists(f"{self.url(key)} exists already")
            version = f"v{next(self._numbers)}" if self._versioned else None
            if not self._versioned:
                versions.clear()
            info = ObjectInfo(key, len(data), version, dict(metadata or {}))
            versions.append(_Object(data, info))
        return info


def _etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
