"""Copying objects within an S3 server, in parts where an object is large.

AWS takes ``If-None-Match: *`` with a copy as with a PUT; for other servers see ``guarded``. AWS computes the SHA-256 of
what it copies when asked, and of every chunk where the copy is made chunk by chunk: its answer proves the copy's
digest.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from fusepkg_cache.digest import MIN_CHUNK_BYTES, chunk_size

from fusepkg.errors import FileChanged
from fusepkg.store.protocol import CHANGED_HINT
from fusepkg.store.s3 import write
from fusepkg.store.s3.answers import bare_etag, checksums_of, real_version
from fusepkg.store.s3.botocore import translate, translated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, CopySourceTypeDef

    from fusepkg.model.checksums import Checksums
    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.store.s3.address import Address

PARTS_AT_ONCE = 8
"""Parts of one copy in flight: they hold no memory here."""

_MISSING_CODES = ("NoSuchKey", "NoSuchVersion", "404")


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy to be made; ``fields`` are the metadata, ``source_address`` names the source in messages."""

    address: Address
    source: PhysicalKey
    source_address: Address
    size: int
    source_etag: str | None
    fields: dict[str, Any]

    @property
    def source_names(self) -> CopySourceTypeDef:
        """What is copied, as requests want it."""
        names: CopySourceTypeDef = {"Bucket": self.source.bucket, "Key": self.source.key}
        return names if self.source.version is None else {**names, "VersionId": self.source.version}


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy that was made."""

    version: str | None
    etag: str
    checksums: Checksums | None


def knows_condition(client: S3Client) -> bool:
    """Whether this botocore can send ``If-None-Match`` with a copy."""
    shape = client.meta.service_model.operation_model("CopyObject").input_shape
    return shape is not None and "IfNoneMatch" in shape.members


def copy(client: S3Client, wanted: Copy) -> Copied:
    """Copy to a free key, where the server keeps to ``If-None-Match`` and tells checksums of what it copied."""
    pinned = pin(client, wanted)
    fields = {"ChecksumAlgorithm": "SHA256", **pinned}
    with translated(wanted.address), naming_source(wanted):
        if wanted.size > MIN_CHUNK_BYTES:
            return copy_parts(client, wanted, fields, {"IfNoneMatch": "*"})
        return copy_whole(client, wanted, {**fields, "IfNoneMatch": "*"})


def pin(client: S3Client, wanted: Copy) -> dict[str, Any]:
    """Return the condition that the source stays the same until it is copied: empty for one with a version.

    Raises: FileChanged for another size or ETag than was looked at.
    """
    if wanted.source.version is not None:
        return {}
    with translated(wanted.source_address):
        found = client.head_object(Bucket=wanted.source.bucket, Key=wanted.source.key)
    if found["ContentLength"] != wanted.size:
        raise FileChanged(
            f"{wanted.source} has {found['ContentLength']} bytes instead of {wanted.size}", hint=CHANGED_HINT
        )
    if wanted.source_etag not in (None, bare_etag(found["ETag"])):
        raise FileChanged(f"{wanted.source} changed", hint=CHANGED_HINT)
    return {"CopySourceIfMatch": found["ETag"]}


@contextmanager
def naming_source(wanted: Copy) -> Iterator[None]:
    """Name the source where it is what is missing."""
    try:
        yield
    except ClientError as exc:
        if exc.response.get("Error", {}).get("Code") in _MISSING_CODES:
            raise translate(exc, wanted.source_address) from exc
        raise


def copy_whole(client: S3Client, wanted: Copy, fields: dict[str, Any]) -> Copied:
    """Copy in one request, with ``fields`` beside the object's own."""
    answer = client.copy_object(
        **wanted.address.names, **wanted.fields, **fields, CopySource=wanted.source_names, MetadataDirective="REPLACE"
    )
    result = answer["CopyObjectResult"]
    return Copied(real_version(answer.get("VersionId")), result["ETag"], checksums_of(result))


def copy_parts(client: S3Client, wanted: Copy, fields: dict[str, Any], condition: dict[str, Any]) -> Copied:
    """Copy chunk by chunk; ``fields`` go with every part, the ``condition`` with the request that joins them."""
    part_bytes = chunk_size(wanted.size)
    fields = dict(fields)
    begin = {name: fields.pop(name) for name in ("ChecksumAlgorithm",) if name in fields}

    def send(begun: dict[str, Any], number: int) -> CompletedPartTypeDef:
        at = (number - 1) * part_bytes
        span = f"bytes={at}-{min(at + part_bytes, wanted.size) - 1}"
        answer = client.upload_part_copy(
            **begun, **fields, PartNumber=number, CopySource=wanted.source_names, CopySourceRange=span
        )
        return write.completed(number, answer["CopyPartResult"])

    count = -(-wanted.size // part_bytes)
    answer = write.in_parts(
        client, wanted.address.names, {**wanted.fields, **begin}, condition, count, send, threads=PARTS_AT_ONCE
    )
    return Copied(real_version(answer.get("VersionId")), answer["ETag"], checksums_of(answer))
