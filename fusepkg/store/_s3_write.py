"""Writing S3 objects: creation that is exclusive on every server, and uploads in parts.

Owns: which requests make one object, and what to do where a server ignores a condition. Must not know: why an object
is written. Works on the clients given to it; called by ``s3`` only.

**Exclusive creation.** ``If-None-Match: *`` is the whole answer on AWS. Ceph's RADOS Gateway honours it only in
buckets without versioning, and never when an upload in parts is completed: in a versioned bucket a second create
succeeds and becomes the current version. There the oldest version decides: every creator looks at the versions after
its own, and one that was not first removes its version and has lost. The order of versions is settled by the bucket's
index before a create is answered, so all agree on who was first.

**Lost answers.** A create that is repeated because its first answer was lost meets its own object. One that holds our
very bytes then counts as ours.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from fusepkg_cache.digest import MIN_CHUNK_BYTES, chunk_size

from fusepkg.errors import AccessDenied, FileChanged, ObjectExists, ObjectMissing
from fusepkg.store import _obstore
from fusepkg.store._botocore import error_code, translated, was_retried
from fusepkg.store._s3_metadata import encode_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

    from fusepkg.store._obstore import Creator
    from fusepkg.store._s3_answers import Target

MULTIPART_FROM_BYTES = 2 * MIN_CHUNK_BYTES
"""Sizes above this go up in parts: below it one request is as fast."""

FAST_PUT_BYTES = MULTIPART_FROM_BYTES
"""Objects up to this size go out through obstore, which takes a tenth of boto3's CPU: for small ones that is all."""

PUT_LIMIT_BYTES = 5 * 1024**3
"""The most that S3 takes in one PutObject."""

PARTS_AT_ONCE = 4
"""Parts of one object in flight: fills a 10 Gbit/s line, holds four parts in memory."""

CONFLICT_TRIES = 3
"""Tries of a create that S3 answers with 409, which asks for another."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One object to be written; ``fields`` are the request's fields that do not depend on how it is sent."""

    bucket: str
    key: str
    source: bytes | Path
    size: int
    fields: dict[str, Any]
    target: Target

    @property
    def names(self) -> dict[str, Any]:
        """Which object it is, as requests want it."""
        return {"Bucket": self.bucket, "Key": self.key}


def upload_of(
    bucket: str, key: str, source: bytes | Path, metadata: Mapping[str, str] | None, target: Target
) -> Upload:
    """Describe an upload."""
    size = source.stat().st_size if isinstance(source, Path) else len(source)
    fields = {"Metadata": encode_metadata(metadata)} if metadata else {}
    return Upload(bucket, key, source, size, fields, target)


def overwrite(client: S3Client, upload: Upload) -> str | None:
    """Write an object whatever was there; returns its version."""
    with translated(upload.target):
        if upload.size > MULTIPART_FROM_BYTES:
            return _put_parts(client, upload, {})[0]
        return _put(client, upload, {})[0]


def create(client: S3Client, creator: Creator | None, upload: Upload, *, parts_from: int) -> str | None:
    """Write an object if its key is free, where the server keeps to ``If-None-Match``; returns its version."""
    return _create(client, creator, upload, parts_from)[0]


def create_guarded(client: S3Client, creator: Creator | None, upload: Upload, *, look_first: bool) -> str | None:
    """Write an object if its key is free, where the server may ignore the condition; returns its version.

    ``look_first`` saves an occupied key from a version that comes and goes; it costs a request.
    """
    if (look_first or upload.size > PUT_LIMIT_BYTES) and _exists(client, upload):
        raise ObjectExists(f"{upload.target.url} exists already")
    version, retried = _create(client, creator, upload, PUT_LIMIT_BYTES)
    return None if version is None else _settle(client, upload, version, retried)


def _create(client: S3Client, creator: Creator | None, upload: Upload, parts_from: int) -> tuple[str | None, bool]:
    """The version made, and whether an answer may have been lost before that."""
    doubtful = False
    if creator is not None and isinstance(upload.source, bytes) and upload.size <= FAST_PUT_BYTES:
        try:
            metadata = upload.fields.get("Metadata", {})
            return _version(creator.create(upload.key, upload.source, metadata, upload.target)), False
        except _obstore.Unclear:
            doubtful = True
    send = _put_parts if upload.size > parts_from else _put
    for last in (False,) * (CONFLICT_TRIES - 1) + (True,):
        try:
            with translated(upload.target):
                version, retried = send(client, upload, {"IfNoneMatch": "*"})
                return version, retried or doubtful
        except ObjectExists as exc:
            refusal = exc.__cause__
            if not isinstance(refusal, ClientError):
                raise
            if (doubtful or was_retried(refusal)) and (version := _ours(client, upload, None)) is not _NOT_OURS:
                return version, True
            if last or error_code(refusal) != "ConditionalRequestConflict":
                raise
    raise AssertionError("the last try returns or raises")


def _exists(client: S3Client, upload: Upload) -> bool:
    try:
        with translated(upload.target):
            client.head_object(**upload.names)
    except (ObjectMissing, AccessDenied):  # who may not look may still write, and the condition is sent all the same
        return False
    return True


# --- who was first -------------------------------------------------------------------------------------------


def _settle(client: S3Client, upload: Upload, version: str, retried: bool) -> str | None:
    """Keep the version just made if it was the first, else take it back and raise ObjectExists."""
    first = _first_version(client, upload, version)
    if first == version:
        return version
    ours = retried and _ours(client, upload, first) is not _NOT_OURS
    try:
        with translated(upload.target):
            client.delete_object(**upload.names, VersionId=version)
    except AccessDenied as exc:
        raise AccessDenied(
            f"{upload.target.url}: another created it first, and our version {version} on top cannot be removed",
            hint="Allow s3:DeleteObjectVersion, and remove that version",
        ) from exc
    if ours:
        return first
    raise ObjectExists(f"{upload.target.url} exists already: another created it first")


def _first_version(client: S3Client, upload: Upload, version: str) -> str:
    """The oldest version of the key since it was last free; ``version`` is one of them."""
    versions, freed = [], None
    with translated(upload.target):
        for page in client.get_paginator("list_object_versions").paginate(Bucket=upload.bucket, Prefix=upload.key):
            versions += [item for item in page.get("Versions", ()) if item["Key"] == upload.key]
            markers = [item["LastModified"] for item in page.get("DeleteMarkers", ()) if item["Key"] == upload.key]
            freed = max([*markers, *([freed] if freed else [])], default=None)
            if any(item["Key"] != upload.key for item in page.get("Versions", ())):
                break  # keys come in order, ours is the first of its prefix
    for item in reversed(versions):  # newest first, as S3 lists them
        if freed is None or item["LastModified"] > freed or item["VersionId"] == version:
            return item["VersionId"]
    return version


_NOT_OURS = "\0"
"""No version: what is there was written by somebody else."""


def _ours(client: S3Client, upload: Upload, version: str | None) -> str | None:
    """Version of the object at the key if it holds our bytes, else ``_NOT_OURS``."""
    if upload.size > MULTIPART_FROM_BYTES:
        return _NOT_OURS
    try:
        with translated(upload.target):
            answer = client.get_object(**upload.names, **_version_field(version))
            same = answer["ContentLength"] == upload.size and answer["Body"].read() == _read(upload, 0, upload.size)
    except ObjectMissing:  # refused for a conflict, and nothing there after all
        return _NOT_OURS
    return answer.get("VersionId") if same else _NOT_OURS


# --- sending -------------------------------------------------------------------------------------------------


def _put(client: S3Client, upload: Upload, condition: dict[str, Any]) -> tuple[str | None, bool]:
    request: dict[str, Any] = {**upload.names, **upload.fields, **condition}
    if isinstance(upload.source, Path) and upload.size > MIN_CHUNK_BYTES:
        with upload.source.open("rb") as file:
            answer = client.put_object(**request, Body=file)
    else:
        answer = client.put_object(**request, Body=_read(upload, 0, upload.size))
    return _version(answer.get("VersionId")), answer["ResponseMetadata"].get("RetryAttempts", 0) > 0


def _put_parts(client: S3Client, upload: Upload, condition: dict[str, Any]) -> tuple[str | None, bool]:
    part_bytes = chunk_size(upload.size)
    begun: dict[str, Any] = {
        **upload.names,
        "UploadId": client.create_multipart_upload(**upload.names, **upload.fields)["UploadId"],
    }

    def send(number: int) -> CompletedPartTypeDef:
        at = (number - 1) * part_bytes
        body = _read(upload, at, min(part_bytes, upload.size - at))
        return {"PartNumber": number, "ETag": client.upload_part(**begun, PartNumber=number, Body=body)["ETag"]}

    try:
        with ThreadPoolExecutor(PARTS_AT_ONCE, "upload-part") as pool:
            try:
                parts = list(pool.map(send, range(1, -(-upload.size // part_bytes) + 1)))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        answer = client.complete_multipart_upload(**begun, MultipartUpload={"Parts": parts}, **condition)
    except BaseException:
        with suppress(ClientError, BotoCoreError):  # what failed first is what to tell
            client.abort_multipart_upload(**begun)
        raise
    return _version(answer.get("VersionId")), answer["ResponseMetadata"].get("RetryAttempts", 0) > 0


def _read(upload: Upload, offset: int, length: int) -> bytes:
    if not isinstance(upload.source, Path):
        return upload.source[offset : offset + length]
    with upload.source.open("rb") as file:
        file.seek(offset)
        data = file.read(length)
    if len(data) != length:
        raise FileChanged(f"{upload.source} became shorter while it was uploaded", hint="Push again once it is at rest")
    return data


def _version(version: str | None) -> str | None:
    return None if version == "null" else version


def _version_field(version: str | None) -> dict[str, Any]:
    return {"VersionId": version} if version else {}
