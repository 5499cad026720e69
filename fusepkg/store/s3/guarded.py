"""Exclusive writing on servers that ignore conditions, as Ceph's RADOS Gateway does in part.

Ceph honours ``If-None-Match`` of a PUT only in buckets without versioning, never when an upload in parts is completed,
and never of a copy. So in a versioned bucket the first version decides (``versions``). In one without versions a copy
claims its key by a create, which is exclusive, and then replaces the claim. A copier that is killed in between leaves
its claim, a short text that says so, and the key is taken; no manifest names it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from fusepkg.errors import AccessDenied, FileChanged, ObjectExists, ObjectMissing
from fusepkg.store.protocol import CHANGED_HINT
from fusepkg.store.s3 import write
from fusepkg.store.s3.answers import real_version
from fusepkg.store.s3.botocore import translated, was_retried
from fusepkg.store.s3.copy import copy_parts, copy_whole, naming_source, pin
from fusepkg.store.s3.versions import find_own_if_first, keep_if_first

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from fusepkg.store.s3.address import Address
    from fusepkg.store.s3.copy import Copied, Copy
    from fusepkg.store.s3.write import Creator, Upload

COPY_PARTS_FROM_BYTES = 1024**3
"""Sizes above this are copied in parts: in one request a server that says nothing while it copies would come near the
read timeout."""


def create(client: S3Client, creator: Creator | None, upload: Upload, *, versioned: bool | None) -> str | None:
    """Write an object if its key is free; return its version. ``versioned`` is None where it is not known yet.

    Unless the bucket keeps no versions, a look first saves an occupied key from a version that comes and goes.
    """
    look_first = versioned is not False or upload.size > write.PUT_LIMIT_BYTES
    if look_first and _exists(client, upload.address):
        raise ObjectExists(f"{upload.address.url} exists already")
    version = write.create(client, creator, upload, parts_from=write.PUT_LIMIT_BYTES)
    if version is not None:
        keep_if_first(client, upload.address, version)
    return version


def copy(client: S3Client, wanted: Copy, *, versioned: bool | None) -> Copied:
    """Copy to a free key. ``versioned`` is None where it is not known yet."""
    address = wanted.address
    pinned = pin(client, wanted)
    if _exists(client, address):
        raise ObjectExists(f"{address.url} exists already")
    if versioned is not True:
        claim = write.upload_of(address, _claim(wanted), None)
        claimed = write.create(client, None, claim, parts_from=write.PUT_LIMIT_BYTES)
        if claimed is None:
            return _check_again(client, wanted, pinned, _replace_claim(client, wanted, pinned))
        with translated(address):
            client.delete_object(**address.names, VersionId=claimed)
    copied = _send(client, wanted, pinned)
    if copied.version is not None:
        keep_if_first(client, address, copied.version)
    else:  # Ceph does not say which version it made
        version = find_own_if_first(client, address, copied.etag, wanted.size)
        copied = replace(copied, version=real_version(version))
    return _check_again(client, wanted, pinned, copied)


def _exists(client: S3Client, address: Address) -> bool:
    """Whether something lies at the key, as far as we may look."""
    try:
        with translated(address):
            client.head_object(**address.names)
    except (ObjectMissing, AccessDenied):  # who may not look may still write, and the condition is sent all the same
        return False
    return True


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
                client.delete_object(**wanted.address.names)
        raise


def _send(client: S3Client, wanted: Copy, pinned: dict[str, Any]) -> Copied:
    try:
        with translated(wanted.address), naming_source(wanted):
            if wanted.size > COPY_PARTS_FROM_BYTES:
                return copy_parts(client, wanted, pinned, {})
            return copy_whole(client, wanted, pinned)
    except ObjectExists as exc:  # the answer to the condition on the source
        raise FileChanged(f"{wanted.source} changed while it was copied", hint=CHANGED_HINT) from exc.__cause__


def _check_again(client: S3Client, wanted: Copy, pinned: dict[str, Any], copied: Copied) -> Copied:
    """Take the copy back where the source changed meanwhile: Ceph ignores the condition on it."""
    try:
        if not pinned or pin(client, wanted) == pinned:
            return copied
    except (FileChanged, ObjectMissing):
        pass
    version: dict[str, Any] = {"VersionId": copied.version} if copied.version else {}
    with translated(wanted.address):
        client.delete_object(**wanted.address.names, **version)
    raise FileChanged(f"{wanted.source} changed while it was copied", hint=CHANGED_HINT)
