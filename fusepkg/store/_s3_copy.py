"""Copying objects within an S3 server: exclusive on every server, in parts where an object is large.

Owns: which requests make one copy, and how a key is taken where copies know no condition. Must not know: why an object
is copied. Works on a boto3 client given to it; called by ``s3`` only.

**Exclusive copies.** AWS takes ``If-None-Match: *`` with a copy as with a PUT. Other servers do not, or do not say. In
a versioned bucket there the first version decides, as for creates (``_s3_versions``). In one without versions the key
is claimed by a create, which is exclusive, and the copy replaces the claim. A copier that is killed in between leaves
its claim, a short text that says so, and the key is taken; no manifest names it.

**Attested copies.** AWS computes the SHA-256 of what it copies when asked, and of every chunk where the copy is made
chunk by chunk: its answer proves the copy's digest.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from fusepkg_cache.digest import MIN_CHUNK_BYTES, chunk_size

from fusepkg.errors import FileChanged, ObjectExists, ObjectMissing
from fusepkg.store import _s3_write
from fusepkg.store._botocore import translate, translated, was_retried
from fusepkg.store._s3_answers import bare_etag, checksums_of, real_version
from fusepkg.store._s3_versions import Place, settle, settle_unnamed
from fusepkg.store.protocol import CHANGED_HINT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, CopySourceTypeDef

    from fusepkg.model.attested import Checksums
    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.store._s3_answers import Target

PARTS_FROM_BYTES = 1024**3
"""Sizes above this are copied in parts where parts prove nothing: in one request a server that says nothing while it
copies would come near the read timeout."""

PARTS_AT_ONCE = 8
"""Parts of one copy in flight: they hold no memory here."""

_MISSING_CODES = ("NoSuchKey", "NoSuchVersion", "404")


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy to be made; ``fields`` are the metadata, ``source_target`` names the source in messages."""

    place: Place
    source: PhysicalKey
    source_target: Target
    size: int
    source_etag: str | None
    fields: dict[str, Any]

    @property
    def names(self) -> dict[str, Any]:
        """Where the copy goes, as requests want it."""
        return {"Bucket": self.place.bucket, "Key": self.place.key}

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
    """Copy to a free key, where the server keeps to ``If-None-Match`` and attests what it copies."""
    pinned = _pin(client, wanted)
    fields = {"ChecksumAlgorithm": "SHA256", **pinned}
    with translated(wanted.place.target), _of_source(wanted):
        if wanted.size > MIN_CHUNK_BYTES:
            return _copy_parts(client, wanted, fields, {"IfNoneMatch": "*"})
        return _copy_whole(client, wanted, {**fields, "IfNoneMatch": "*"})


def copy_guarded(client: S3Client, wanted: Copy, *, versioned: bool | None) -> Copied:
    """Copy to a free key, where the server knows no condition; ``versioned`` is None where nobody knows yet."""
    place = wanted.place
    pinned = _pin(client, wanted)
    claim = _s3_write.upload_of(place.bucket, place.key, _claim(wanted), None, place.target)
    if _s3_write.exists(client, claim):
        raise ObjectExists(f"{place.target.url} exists already")
    if versioned is not True:
        claimed = _s3_write.create(client, None, claim, parts_from=_s3_write.PUT_LIMIT_BYTES)
        if claimed is None:
            return _check_again(client, wanted, pinned, _replace_claim(client, wanted, pinned))
        with translated(place.target):
            client.delete_object(**wanted.names, VersionId=claimed)
    copied = _send(client, wanted, pinned)
    if copied.version is not None:
        settle(client, place, copied.version)
    else:  # Ceph does not say which version it made
        version = settle_unnamed(client, place, copied.etag, wanted.size)
        copied = replace(copied, version=real_version(version))
    return _check_again(client, wanted, pinned, copied)


def _claim(wanted: Copy) -> bytes:
    words = f"fusepkg copies {wanted.source} to this key. If this stays, the copy was interrupted."
    return f"{words} {token_hex(8)}\n".encode()


def _replace_claim(client: S3Client, wanted: Copy, pinned: dict[str, Any]) -> Copied:
    try:
        return _send(client, wanted, pinned)
    except Exception as exc:
        refusal = exc.__cause__
        if isinstance(refusal, ClientError) and not was_retried(refusal):
            # The server says that nothing was copied, so what lies there is the claim.
            with suppress(ClientError, BotoCoreError):
                client.delete_object(**wanted.names)
        raise


def _send(client: S3Client, wanted: Copy, pinned: dict[str, Any]) -> Copied:
    try:
        with translated(wanted.place.target), _of_source(wanted):
            if wanted.size > PARTS_FROM_BYTES:
                return _copy_parts(client, wanted, pinned, {})
            return _copy_whole(client, wanted, pinned)
    except ObjectExists as exc:  # the answer to the condition on the source
        raise FileChanged(f"{wanted.source} changed while it was copied", hint=CHANGED_HINT) from exc.__cause__


def _pin(client: S3Client, wanted: Copy) -> dict[str, Any]:
    """What keeps a source without a version the same until it is copied. Raises FileChanged for another size."""
    if wanted.source.version is not None:
        return {}
    with translated(wanted.source_target):
        found = client.head_object(Bucket=wanted.source.bucket, Key=wanted.source.key)
    if found["ContentLength"] != wanted.size:
        raise FileChanged(
            f"{wanted.source} has {found['ContentLength']} bytes instead of {wanted.size}", hint=CHANGED_HINT
        )
    if wanted.source_etag not in (None, bare_etag(found["ETag"])):
        raise FileChanged(f"{wanted.source} changed", hint=CHANGED_HINT)
    return {"CopySourceIfMatch": found["ETag"]}


def _check_again(client: S3Client, wanted: Copy, pinned: dict[str, Any], copied: Copied) -> Copied:
    """Take the copy back where the source changed meanwhile: Ceph ignores the condition on it."""
    try:
        if not pinned or _pin(client, wanted) == pinned:
            return copied
    except (FileChanged, ObjectMissing):
        pass
    version: dict[str, Any] = {"VersionId": copied.version} if copied.version else {}
    with translated(wanted.place.target):
        client.delete_object(**wanted.names, **version)
    raise FileChanged(f"{wanted.source} changed while it was copied", hint=CHANGED_HINT)


@contextmanager
def _of_source(wanted: Copy) -> Iterator[None]:
    """Name the source where it is what is missing."""
    try:
        yield
    except ClientError as exc:
        if exc.response.get("Error", {}).get("Code") in _MISSING_CODES:
            raise translate(exc, wanted.source_target) from exc
        raise


def _copy_whole(client: S3Client, wanted: Copy, fields: dict[str, Any]) -> Copied:
    answer = client.copy_object(
        **wanted.names, **wanted.fields, **fields, CopySource=wanted.source_names, MetadataDirective="REPLACE"
    )
    result = answer["CopyObjectResult"]
    return Copied(real_version(answer.get("VersionId")), result["ETag"], checksums_of(result))


def _copy_parts(client: S3Client, wanted: Copy, fields: dict[str, Any], condition: dict[str, Any]) -> Copied:
    part_bytes = chunk_size(wanted.size)
    fields = dict(fields)
    begin = {name: fields.pop(name) for name in ("ChecksumAlgorithm",) if name in fields}

    def send(begun: dict[str, Any], number: int) -> CompletedPartTypeDef:
        at = (number - 1) * part_bytes
        span = f"bytes={at}-{min(at + part_bytes, wanted.size) - 1}"
        answer = client.upload_part_copy(
            **begun, **fields, PartNumber=number, CopySource=wanted.source_names, CopySourceRange=span
        )
        return _s3_write.completed(number, answer["CopyPartResult"])

    count = -(-wanted.size // part_bytes)
    answer = _s3_write.in_parts(
        client, wanted.names, {**wanted.fields, **begin}, condition, count, send, threads=PARTS_AT_ONCE
    )
    return Copied(real_version(answer.get("VersionId")), answer["ETag"], checksums_of(answer))
