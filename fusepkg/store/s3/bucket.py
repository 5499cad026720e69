"""One bucket as one process talks to it: which client makes a request, and by which server's rules."""

from __future__ import annotations

import os
import re
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from fusepkg.errors import BucketNotFound, CopyUnsupported, RemoteError
from fusepkg.store.protocol import AT_MOST_BYTES, ObjectInfo
from fusepkg.store.s3 import listing, objects, read, write
from fusepkg.store.s3.address import Address
from fusepkg.store.s3.botocore import bucket_region
from fusepkg.store.s3.clients import open_clients
from fusepkg.store.s3.copy import Copy
from fusepkg.store.s3.exchange import RefusedAnswer
from fusepkg.store.s3.http.loop import in_thread, wait_for
from fusepkg.store.s3.metadata import encode_metadata
from fusepkg.store.s3.rules import choose_rules
from fusepkg.store.s3.signed_url import signed_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from pathlib import Path

    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.store.s3.address import Action
    from fusepkg.store.s3.clients import Clients
    from fusepkg.store.s3.exchange import Exchange
    from fusepkg.store.s3.settings import S3Settings

_Result = TypeVar("_Result")

_BUCKET_NAME = re.compile(r"[A-Za-z0-9._-]{1,255}")
"""Names that buckets can have, old ones and those of other servers included: botocore's own rule."""


class Bucket:
    """Requests to one bucket, by the clients of the process ``pid``. See ObjectStore for what each does."""

    def __init__(self, name: str, settings: S3Settings) -> None:
        if not _BUCKET_NAME.fullmatch(name):
            raise BucketNotFound(f"s3://{name} does not exist: no bucket can have such a name", hint="Check the name")
        self.pid = os.getpid()
        self._name = name
        self._settings = settings
        self._clients = open_clients(Address(name, "", settings.endpoint_url or "", settings.sign), settings)
        self._rules = choose_rules(self._clients.connection)
        self._lock = threading.Lock()

    def get(self, key: str, version: str | None, offset: int, length: int | None, at_most: int) -> bytes:
        """Bytes of one object."""
        return wait_for(self.get_async(key, version, offset, length, at_most))

    async def get_async(
        self, key: str, version: str | None, offset: int, length: int | None, at_most: int = AT_MOST_BYTES
    ) -> bytes:
        """Bytes of one object, on the loop."""
        if length == 0:
            return b""
        address = self._address(key)
        return await self._at_home(lambda there: objects.get(there, address, version, offset, length, at_most))

    def stream(self, key: str, version: str | None, piece_bytes: int) -> Iterator[bytes]:
        """The whole object in pieces."""
        address = self._address(key)
        return read.stream(self._clients.boto, address, version, piece_bytes, attempts=self._settings.attempts)

    def head(self, key: str, version: str | None) -> ObjectInfo:
        """All but the bytes of one object."""
        return read.head(self._clients.boto, self._address(key), version)

    def part_bytes(self, key: str, version: str | None) -> list[int] | None:
        """Sizes of an object's parts; None where they are not told."""
        return self._rules.part_bytes(self._clients.boto, self._address(key), version)

    def list(self, prefix: str, limit: int | None) -> Iterator[ObjectInfo]:
        """Objects by prefix."""
        return listing.objects(self._clients.boto, self._address(""), prefix, limit)

    def list_versions(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects with their current versions, by prefix."""
        return listing.versions(self._clients.boto, self._address(""), prefix)

    def list_directories(self, prefix: str) -> Iterator[str]:
        """What keys begin with, up to the next ``/``, by prefix."""
        return listing.directories(self._clients.boto, self._address(""), prefix)

    def create(self, key: str, source: bytes | Path, metadata: Mapping[str, str]) -> ObjectInfo:
        """Write an object if its key is free."""
        upload = write.upload_of(self._address(key, "write"), source, metadata, with_sha256=self._rules.with_sha256)
        version = self._rules.create(self._clients.boto, self._create_small, upload)
        return ObjectInfo(key, upload.size, version, dict(metadata))

    def overwrite(self, key: str, source: bytes | Path, metadata: Mapping[str, str]) -> ObjectInfo:
        """Write an object whatever its key holds."""
        upload = write.upload_of(self._address(key, "write"), source, metadata, with_sha256=self._rules.with_sha256)
        version = write.overwrite(self._clients.boto, upload, parts_from=self._rules.parts_from)
        return ObjectInfo(key, upload.size, version, dict(metadata))

    def copy(
        self, source: PhysicalKey, key: str, *, size: int, etag: str | None, metadata: Mapping[str, str]
    ) -> ObjectInfo:
        """Copy an object to a free key within the server."""
        if source.scheme != "s3":
            raise CopyUnsupported(f"{source} does not lie in S3")
        address = self._address(key, "copy")
        source_address = replace(address, bucket=source.bucket, key=source.key)
        fields = {"Metadata": encode_metadata(metadata)}
        copied = self._rules.copy(self._clients.boto, Copy(address, source, source_address, size, etag, fields))
        return ObjectInfo(key, size, copied.version, dict(metadata), copied.checksums)

    def stays(self, found: ObjectInfo) -> bool:
        """Whether an object that ``head`` found is there to stay."""
        if found.version is None:
            return True
        return self._rules.stays(self._clients.boto, self._address(found.key), found.version)

    def sign_url(self, key: str, version: str | None, expires_s: int) -> str:
        """An address at which an object can be read for so long."""
        return signed_url(self._clients.connection, self._address(key), version, expires_s)

    def _address(self, key: str, action: Action = "read") -> Address:
        return Address(self._name, key, self._clients.connection.endpoint, self._settings.sign, action)

    def _create_small(self, address: Address, data: bytes, metadata: Mapping[str, str]) -> str | None:
        return wait_for(self._at_home(lambda there: objects.create(there, address, data, metadata)))

    async def _at_home(self, ask: Callable[[Exchange], Awaitable[_Result]]) -> _Result:
        """Ask where the bucket is: again, in its own region, where that is not where it was asked."""
        clients = self._clients
        try:
            return await ask(clients.exchange)
        except RemoteError as exc:
            refused = exc.__cause__
            if not isinstance(refused, RefusedAnswer) or not refused.may_be_elsewhere:
                raise
            moved = await in_thread(self._follow_region, clients)
            if moved is clients:
                raise
        return await ask(moved.exchange)

    def _follow_region(self, clients: Clients) -> Clients:
        """Clients for the bucket's own region, which only its own header names; the same where it is no other."""
        if self._clients is not clients:
            return self._clients
        region = bucket_region(clients.boto, self._name)
        if not region or region == clients.connection.region:
            return clients
        with self._lock:
            if self._clients is clients:
                self._clients = open_clients(self._address(""), replace(self._settings, region=region))
            return self._clients
