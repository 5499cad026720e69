"""An S3 bucket as an ObjectStore: AWS's own, and servers that speak its protocol.

Owns: which request each call makes, retries of broken bodies, what the parts of an answer must be. Must not know:
packages, caches. Client libraries are imported, and clients made, at the first call in a process: a command that
never talks to S3 does not pay for them, and a forked child makes its own.

Reads and small creates go through obstore where it can serve them (``_obstore``), all else through boto3
(``_botocore``); writes are in ``_s3_write``.
"""

from __future__ import annotations

import os
import re
import threading
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from fusepkg_cache.digest import MIN_CHUNK_BYTES

from fusepkg.errors import CopyUnsupported, ObjectExists, RemoteProtocol, RemoteUnavailable
from fusepkg.model.physical_key import PhysicalKey
from fusepkg.store._s3_answers import Target, bare_etag, checksums_of, real_version
from fusepkg.store._s3_metadata import decode_metadata, encode_metadata
from fusepkg.store.protocol import ObjectInfo, directories_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, ListObjectsV2OutputTypeDef

    from fusepkg.store._botocore import Connection
    from fusepkg.store._obstore import Creator, Reader
    from fusepkg.store._s3_answers import Deed
    from fusepkg.store._s3_write import Upload

LIST_PAGE_KEYS = 1000
"""Keys per page of a listing: the most S3 gives."""

STREAM_BLOCK_BYTES = 64 * 1024
"""Most bytes taken from a body at once: of a block that breaks off, what had arrived is lost and asked for again."""

_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""Characters a listing cannot hold in its echo of the prefix (XML 1.0): servers then answer something unreadable."""

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class S3Settings:
    """How to reach S3. What is None comes from AWS's own sources: environment, profile, instance.

    ``attempts`` tries per request, with backoff between them; an endpoint that does not answer at all is given up
    after ``attempts`` times ``connect_timeout_s`` and a few seconds. ``read_timeout_s`` is the longest silence within
    an answer.
    """

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    sign: bool = True
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    attempts: int = 3


@dataclass(frozen=True, slots=True)
class _Link:
    """The clients of one process; ``reader`` and ``creator`` are None where obstore cannot run."""

    pid: int
    connection: Connection
    reader: Reader | None
    creator: Creator | None


class S3Store:
    """One bucket. Safe for many threads; a forked child gets clients of its own at its first call."""

    def __init__(self, bucket: str, settings: S3Settings) -> None:
        self.bucket = bucket
        self._settings = settings
        self._link: _Link | None = None
        self._lock = threading.Lock()
        self._versioned: bool | None = None

    # --- reading ---------------------------------------------------------------------------------------------

    def get(self, key: str, *, version: str | None = None, offset: int = 0, length: int | None = None) -> bytes:
        """See ObjectStore."""
        if length == 0:
            return b""
        link = self._linked()
        if link.reader is not None and self._obstore_can_name(key):
            from fusepkg.store._obstore import Unclear

            try:
                return link.reader.get(key, version, offset, length, self._target(key))
            except Unclear as unclear:
                if unclear.wrong_region:
                    link = self._follow_region(link)
        return self._get_by_boto(link, key, version, offset, length)

    def _get_by_boto(self, link: _Link, key: str, version: str | None, offset: int, length: int | None) -> bytes:
        from fusepkg.store._botocore import open_object, translated

        target, names = self._target(key), self._names(key, version)
        if offset or length is not None:
            names["Range"] = f"bytes={offset}-{'' if length is None else offset + length - 1}"
        failures = 0
        while True:
            answer = open_object(link.connection.client, target, names)
            if answer is None:
                return b""  # the range starts at or past the object's end
            try:
                with translated(target), closing(answer["Body"]):
                    return _take(answer, offset, length, target)
            except RemoteUnavailable:  # opening is retried by botocore, reading the body is not
                failures += 1
                if failures >= self._settings.attempts:
                    raise

    def stream(self, key: str, *, version: str | None = None, piece_bytes: int) -> Iterator[bytes]:
        """See ObjectStore. Where the connection breaks, another GET goes on from there."""
        rest = bytearray()
        for block in self._blocks(key, version):
            rest += block
            while len(rest) >= piece_bytes:
                yield bytes(memoryview(rest)[:piece_bytes])
                del rest[:piece_bytes]
        if rest:
            yield bytes(rest)

    def _blocks(self, key: str, version: str | None) -> Iterator[bytes]:
        """The object's bytes in order, in blocks of any size."""
        from fusepkg.store._botocore import open_object, translated

        client, target, names = self._linked().connection.client, self._target(key), self._names(key, version)
        answer = open_object(client, target, names)
        if answer is None or "ContentLength" not in answer:
            raise RemoteProtocol(f"{target.url} at {target.place}: the answer to a GET has no length")
        size, done, failures = answer["ContentLength"], 0, 0
        if answer.get("ETag"):
            names["IfMatch"] = answer["ETag"]
        while True:
            try:
                with translated(target), closing(answer["Body"]) as body:
                    while done < size:
                        block = body.read(min(STREAM_BLOCK_BYTES, size - done))
                        if not block:
                            raise RemoteUnavailable(f"{target.url} at {target.place}: the body ended early")
                        done, failures = done + len(block), 0
                        yield block
                return
            except RemoteUnavailable:
                failures += 1
                if failures >= self._settings.attempts:
                    raise
            try:
                answer = open_object(client, target, names | {"Range": f"bytes={done}-"})
            except ObjectExists as exc:  # the answer to If-Match
                raise RemoteProtocol(f"{target.url} changed while it was read") from exc
            if answer is None or _first_byte(answer) != done:
                raise RemoteProtocol(f"{target.url} at {target.place}: does not answer ranges rightly")

    def head(self, key: str, *, version: str | None = None) -> ObjectInfo:
        """See ObjectStore."""
        client = self._linked().connection.client
        from fusepkg.store._botocore import translated

        with translated(self._target(key)):
            answer = client.head_object(**self._names(key, version), ChecksumMode="ENABLED")
        return ObjectInfo(
            key,
            answer["ContentLength"],
            real_version(answer.get("VersionId")),
            decode_metadata(answer["Metadata"]),
            checksums_of(answer),
            bare_etag(answer["ETag"]),
        )

    def part_bytes(self, key: str, *, version: str | None = None) -> list[int] | None:
        """See ObjectStore."""
        link = self._linked()
        if not link.connection.is_aws:
            return None  # other servers do not know the question, or answer it in part
        from fusepkg.store import _s3_list

        return _s3_list.part_bytes(link.connection.client, self._names(key, version), self._target(key))

    def list(self, prefix: str, *, limit: int | None = None) -> Iterator[ObjectInfo]:
        """See ObjectStore."""
        found = (info for info in self._listed(prefix, limit) if info.key.startswith(prefix))
        return islice(found, limit)

    def list_versions(self, prefix: str) -> Iterator[ObjectInfo]:
        """See ObjectStore."""
        client = self._linked().connection.client
        from fusepkg.store import _s3_list

        unfit = _NO_XML.search(prefix)
        asked = prefix[: unfit.start()] if unfit else prefix
        try:
            for info in _s3_list.versions(client, self.bucket, asked, self._target("")):
                if info.key.startswith(prefix):
                    yield info
        except _s3_list.VersionsDenied:
            yield from self.list(prefix)

    def list_directories(self, prefix: str) -> Iterator[str]:
        """See ObjectStore."""
        if _NO_XML.search(prefix):
            yield from directories_of(self.list(prefix), prefix)
            return
        for page in self._pages({"Prefix": prefix, "Delimiter": "/", "MaxKeys": LIST_PAGE_KEYS}):
            for item in page.get("CommonPrefixes", ()):
                yield item["Prefix"]

    def _listed(self, prefix: str, limit: int | None) -> Iterator[ObjectInfo]:
        """Objects whose key starts with ``prefix``, perhaps some more."""
        unfit = _NO_XML.search(prefix)
        page_keys = LIST_PAGE_KEYS if limit is None or unfit else min(limit, LIST_PAGE_KEYS)
        if page_keys:
            for page in self._pages({"Prefix": prefix[: unfit.start()] if unfit else prefix, "MaxKeys": page_keys}):
                for item in page.get("Contents", ()):
                    yield ObjectInfo(item["Key"], item["Size"])

    def _pages(self, question: dict[str, Any]) -> Iterator[ListObjectsV2OutputTypeDef]:
        client, target = self._linked().connection.client, self._target("")
        from fusepkg.store._botocore import translated

        names = {"Bucket": self.bucket} | question
        while True:
            with translated(target):
                page = client.list_objects_v2(**names)
            yield page
            if not page.get("NextContinuationToken"):
                return
            names["ContinuationToken"] = page["NextContinuationToken"]

    # --- writing ---------------------------------------------------------------------------------------------

    def create(self, key: str, source: bytes | Path, *, metadata: Mapping[str, str] | None = None) -> ObjectInfo:
        """See ObjectStore. Where ``source`` is a file that cannot be read, the OSError passes."""
        link = self._linked()
        client, creator = link.connection.client, link.creator if self._obstore_can_name(key) else None
        from fusepkg.store import _s3_write

        upload = self._upload(link, key, source, metadata)
        if link.connection.is_aws:
            version = _s3_write.create(client, creator, upload, parts_from=MIN_CHUNK_BYTES)
        else:
            version = _s3_write.create_guarded(client, creator, upload, look_first=self._versioned is not False)
            self._versioned = version is not None
        return ObjectInfo(key, upload.size, version, dict(metadata or {}))

    def overwrite(self, key: str, source: bytes | Path, *, metadata: Mapping[str, str] | None = None) -> ObjectInfo:
        """See ObjectStore. Where ``source`` is a file that cannot be read, the OSError passes."""
        link = self._linked()
        from fusepkg.store import _s3_write

        upload = self._upload(link, key, source, metadata)
        parts_from = MIN_CHUNK_BYTES if link.connection.is_aws else _s3_write.MULTIPART_FROM_BYTES
        version = _s3_write.overwrite(link.connection.client, upload, parts_from=parts_from)
        return ObjectInfo(key, upload.size, version, dict(metadata or {}))

    def copy(
        self,
        source: PhysicalKey,
        key: str,
        *,
        size: int,
        etag: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> ObjectInfo:
        """See ObjectStore. Where S3 attests what it copied, the answer has the checksums."""
        if source.scheme != "s3":
            raise CopyUnsupported(f"{source} does not lie in S3")
        connection = self._linked().connection
        from fusepkg.store import _s3_copy
        from fusepkg.store._s3_versions import Place

        wanted = _s3_copy.Copy(
            Place(self.bucket, key, self._target(key, "copy")),
            source,
            replace(self._target("", "copy"), url=str(source)),
            size,
            etag,
            {"Metadata": encode_metadata(metadata or {})},
        )
        if connection.is_aws and _s3_copy.knows_condition(connection.client):
            copied = _s3_copy.copy(connection.client, wanted)
        else:
            copied = _s3_copy.copy_guarded(connection.client, wanted, versioned=self._versioned)
            self._versioned = copied.version is not None
        return ObjectInfo(key, size, copied.version, dict(metadata or {}), copied.checksums)

    def stays(self, found: ObjectInfo) -> bool:
        """See ObjectStore. AWS is not asked: it lets nobody succeed who was not first."""
        connection = self._linked().connection
        if found.version is None or connection.is_aws:
            return True
        from fusepkg.store import _s3_versions

        place = _s3_versions.Place(self.bucket, found.key, self._target(found.key))
        return _s3_versions.stays(connection.client, place, found.version)

    def _upload(self, link: _Link, key: str, source: bytes | Path, metadata: Mapping[str, str] | None) -> Upload:
        from fusepkg.store import _s3_write

        target = self._target(key, "write")
        return _s3_write.upload_of(self.bucket, key, source, metadata, target, attested=link.connection.is_aws)

    # --- names and clients -----------------------------------------------------------------------------------

    def url(self, key: str, version: str | None = None) -> str:
        """See ObjectStore."""
        return str(PhysicalKey("s3", self.bucket, key, version))

    def _names(self, key: str, version: str | None) -> dict[str, Any]:
        names = {"Bucket": self.bucket, "Key": key}
        return names if version is None else names | {"VersionId": version}

    def _target(self, key: str, deed: Deed = "read") -> Target:
        endpoint = self._link.connection.endpoint if self._link else self._settings.endpoint_url or ""
        url = f"s3://{self.bucket}/{key}" if key else f"s3://{self.bucket}"
        return Target(url, endpoint, self._settings.sign, deed)

    @staticmethod
    def _obstore_can_name(key: str) -> bool:
        from fusepkg.store._obstore import can_name

        return can_name(key)

    def _linked(self) -> _Link:
        """The clients of this process."""
        link = self._link
        if link is None or link.pid != os.getpid():
            with self._lock:
                link = self._link
                if link is None or link.pid != os.getpid():
                    link = self._link = self._make_link(self._settings)
        return link

    def _make_link(self, settings: S3Settings) -> _Link:
        from fusepkg.store import _botocore, _obstore

        connection = _botocore.connect(settings, self._target(""))
        if not _obstore.runs_here():
            return _Link(os.getpid(), connection, None, None)
        reader = _obstore.Reader(self.bucket, settings, connection)
        creator = _obstore.Creator(self.bucket, settings, connection)
        return _Link(os.getpid(), connection, reader, creator)

    def _follow_region(self, link: _Link) -> _Link:
        """Clients for the bucket's own region; boto3 follows S3's redirects by itself, obstore does not."""
        from fusepkg.store import _botocore

        region = _botocore.bucket_region(link.connection.client, self.bucket)
        if not region or region == link.connection.region:
            return link
        with self._lock:
            self._link = self._make_link(replace(self._settings, region=region))
            return self._link


def _first_byte(answer: GetObjectOutputTypeDef) -> int | None:
    found = _CONTENT_RANGE.fullmatch(answer.get("ContentRange", ""))
    return int(found[1]) if found else None


def _take(answer: GetObjectOutputTypeDef, offset: int, length: int | None, target: Target) -> bytes:
    """The bytes asked for out of an answer, which may be the whole object; never others."""
    body = answer["Body"]
    if answer["ResponseMetadata"]["HTTPStatusCode"] != 206:
        skipped = 0
        while skipped < offset and (block := body.read(min(STREAM_BLOCK_BYTES, offset - skipped))):
            skipped += len(block)
        return body.read(length)
    data = body.read()
    found = _CONTENT_RANGE.fullmatch(answer.get("ContentRange", ""))
    if found:
        end = int(found[2]) + 1
        wanted_end = min(
            end if length is None else offset + length,
            end if found[3] == "*" else int(found[3]),
        )
        if int(found[1]) == offset and end == wanted_end and len(data) == end - offset:
            return data
    raise RemoteProtocol(
        f"{target.url} at {target.place}: asked for {'all' if length is None else length} bytes from {offset}, the"
        f" answer holds {len(data)} and calls them {answer.get('ContentRange', 'nothing')!r}"
    )
