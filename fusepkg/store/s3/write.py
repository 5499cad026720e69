"""Writing S3 objects: exclusive creation by ``If-None-Match: *``, and uploads in parts.

**Lost answers.** A create that is repeated because its first answer was lost meets its own object. One that holds our
very bytes then counts as ours.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from botocore.exceptions import BotoCoreError, ClientError
from fusepkg_cache.digest import MIN_CHUNK_BYTES, chunk_size

from fusepkg.errors import FileChanged, ObjectExists
from fusepkg.store.s3.answers import real_version
from fusepkg.store.s3.botocore import error_code, translated, was_retried
from fusepkg.store.s3.exchange import RefusedAnswer
from fusepkg.store.s3.metadata import encode_metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, CompleteMultipartUploadOutputTypeDef

    from fusepkg.store.s3.address import Address

Creator: TypeAlias = "Callable[[Address, bytes, Mapping[str, str]], str | None]"
"""Creates a small object, by its encoded metadata, if its key is free; returns its version."""

MULTIPART_FROM_BYTES = 2 * MIN_CHUNK_BYTES
"""Sizes above this go up in parts: below it one request is as fast."""

FAST_PUT_BYTES = MIN_CHUNK_BYTES
"""Objects up to this size go out through our own client: boto3's CPU per request is most of what small ones cost."""

PUT_LIMIT_BYTES = 5 * 1024**3
"""The most that S3 takes in one PutObject."""

PARTS_AT_ONCE = 4
"""Parts of one object in flight: fills a 10 Gbit/s line, holds four parts in memory."""

ABORT_S = 1.0
"""How long the end of an interrupted process waits for servers to drop what they have of its uploads."""

CONFLICT_TRIES = 3
"""Tries of a create that S3 answers with 409, which asks for another."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One object to be written.

    ``fields`` are the request's fields that do not depend on how it is sent; ``checksum`` are those that ask for one,
    with every part too.
    """

    address: Address
    source: bytes | Path
    size: int
    fields: dict[str, Any]
    checksum: dict[str, Any]


def upload_of(
    address: Address, source: bytes | Path, metadata: Mapping[str, str] | None, *, with_sha256: bool = False
) -> Upload:
    """Describe an upload; ``with_sha256`` has its SHA-256 sent, which S3 checks and tells ever after.

    Other servers than AWS may store the frame of such a request as if it were the object.
    """
    size = source.stat().st_size if isinstance(source, Path) else len(source)
    fields = {"Metadata": encode_metadata(metadata)} if metadata else {}
    return Upload(address, source, size, fields, {"ChecksumAlgorithm": "SHA256"} if with_sha256 else {})


def overwrite(client: S3Client, upload: Upload, *, parts_from: int) -> str | None:
    """Write an object whatever was there; returns its version."""
    with translated(upload.address):
        return _put_parts(client, upload, {}) if upload.size > parts_from else _put(client, upload, {})


def create(client: S3Client, creator: Creator | None, upload: Upload, *, parts_from: int) -> str | None:
    """Write an object if its key is free, where the server keeps to ``If-None-Match``; returns its version."""
    for last in (False,) * (CONFLICT_TRIES - 1) + (True,):
        try:
            return _create_once(client, creator, upload, parts_from)
        except ObjectExists as exc:
            code, retried = _refusal(exc)
            if code == "ConditionalRequestConflict":
                if last:
                    raise
            elif retried and (version := _ours(client, upload)) is not _NOT_OURS:
                return version
            else:
                raise
    raise AssertionError("the last try returns or raises")


def _create_once(client: S3Client, creator: Creator | None, upload: Upload, parts_from: int) -> str | None:
    if creator is not None and isinstance(upload.source, bytes) and upload.size <= FAST_PUT_BYTES:
        return creator(upload.address, upload.source, upload.fields.get("Metadata", {}))
    with translated(upload.address):
        return (_put_parts if upload.size > parts_from else _put)(client, upload, {"IfNoneMatch": "*"})


def _refusal(exc: ObjectExists) -> tuple[str, bool]:
    """S3's word for it, and whether an earlier try may have made the object that is there."""
    refusal = exc.__cause__
    if isinstance(refusal, RefusedAnswer):
        return refusal.code, refusal.retried
    return (error_code(refusal), was_retried(refusal)) if isinstance(refusal, ClientError) else ("", False)


_NOT_OURS = "\0"
"""No version: what is there was written by somebody else."""


def _ours(client: S3Client, upload: Upload) -> str | None:
    """Version of the object at the key if it holds our bytes, else ``_NOT_OURS``."""
    with translated(upload.address):
        answer = client.get_object(**upload.address.names)
        with closing(answer["Body"]) as body:
            same = answer["ContentLength"] == upload.size and all(
                body.read(length) == _read(upload, at, length) for at, length in _blocks(upload.size)
            )
    return real_version(answer.get("VersionId")) if same else _NOT_OURS


def _blocks(size: int) -> Iterator[tuple[int, int]]:
    """Offset and length of each block that two objects of that size are compared by."""
    return ((at, min(MIN_CHUNK_BYTES, size - at)) for at in range(0, size, MIN_CHUNK_BYTES))


# --- sending -------------------------------------------------------------------------------------------------


def _put(client: S3Client, upload: Upload, condition: dict[str, Any]) -> str | None:
    request: dict[str, Any] = {**upload.address.names, **upload.fields, **upload.checksum, **condition}
    if isinstance(upload.source, Path) and upload.size > MIN_CHUNK_BYTES:
        with upload.source.open("rb") as file:
            answer = client.put_object(**request, Body=file)
    else:
        answer = client.put_object(**request, Body=_read(upload, 0, upload.size))
    return real_version(answer.get("VersionId"))


def _put_parts(client: S3Client, upload: Upload, condition: dict[str, Any]) -> str | None:
    part_bytes = chunk_size(upload.size)

    def send(begun: dict[str, Any], number: int) -> CompletedPartTypeDef:
        at = (number - 1) * part_bytes
        body = _read(upload, at, min(part_bytes, upload.size - at))
        return completed(number, client.upload_part(**begun, **upload.checksum, PartNumber=number, Body=body))

    fields = {**upload.fields, **upload.checksum}
    count = -(-upload.size // part_bytes)
    answer = in_parts(client, upload.address.names, fields, condition, count, send, threads=PARTS_AT_ONCE)
    return real_version(answer.get("VersionId"))


def in_parts(
    client: S3Client,
    names: dict[str, Any],
    fields: dict[str, Any],
    condition: dict[str, Any],
    count: int,
    send: Callable[[dict[str, Any], int], CompletedPartTypeDef],
    *,
    threads: int,
) -> CompleteMultipartUploadOutputTypeDef:
    """Make one object of ``count`` parts, each made by ``send``; nothing is left where that fails."""
    begun: dict[str, Any] = {**names, "UploadId": client.create_multipart_upload(**names, **fields)["UploadId"]}
    pool = ThreadPoolExecutor(threads, "upload-part")
    _under_way[begun["UploadId"]] = client, begun
    try:
        parts = list(pool.map(lambda number: send(begun, number), range(1, count + 1)))
        answer = client.complete_multipart_upload(**begun, MultipartUpload={"Parts": parts}, **condition)
    except Exception:
        pool.shutdown(cancel_futures=True)
        _abort(client, begun)
        del _under_way[begun["UploadId"]]
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # an interrupt waits for nothing
    del _under_way[begun["UploadId"]]
    return answer


_under_way: dict[str, tuple[S3Client, dict[str, Any]]] = {}
"""Uploads in parts that this process has begun, by their ids; those of interrupted calls stay."""


def abandon() -> None:
    """Have the servers drop all that is under way, as far as they answer in time: the process is about to end."""
    aborts = [threading.Thread(target=_abort, args=one, daemon=True) for one in list(_under_way.values())]
    for abort in aborts:
        abort.start()
    deadline = time.monotonic() + ABORT_S
    for abort in aborts:
        abort.join(max(0.0, deadline - time.monotonic()))


def completed(number: int, answer: Mapping[str, Any]) -> CompletedPartTypeDef:
    """A part as the request that makes one object of all wants it."""
    part: CompletedPartTypeDef = {"PartNumber": number, "ETag": answer["ETag"]}
    if checksum := answer.get("ChecksumSHA256"):
        part["ChecksumSHA256"] = checksum
    return part


def _abort(client: S3Client, begun: dict[str, Any]) -> None:
    with suppress(ClientError, BotoCoreError):  # what failed first is what to tell
        client.abort_multipart_upload(**begun)


def _read(upload: Upload, offset: int, length: int) -> bytes:
    if not isinstance(upload.source, Path):
        return upload.source[offset : offset + length]
    with upload.source.open("rb") as file:
        file.seek(offset)
        data = file.read(length)
    if len(data) != length:
        raise FileChanged(f"{upload.source} became shorter while it was uploaded", hint="Push again once it is at rest")
    return data
