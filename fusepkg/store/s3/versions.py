"""Who was first under a key of a versioned bucket, on servers that let several creators succeed.

The oldest version since the key was last free decides: every creator looks at the versions after its own, and one
that was not first, with other bytes, removes its version and has lost. The bucket's index orders versions before a
write is answered, so all agree on who was first. A version with the bytes of the first one stays, whoever made it:
another manifest may name it already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusepkg.errors import AccessDenied, ObjectExists
from fusepkg.store.s3.answers import bare_etag
from fusepkg.store.s3.botocore import translated

if TYPE_CHECKING:
    from datetime import datetime

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectVersionTypeDef

    from fusepkg.store.s3.address import Address


def keep_if_first(client: S3Client, address: Address, version: str) -> None:
    """Keep the version just made if it was the first, else delete it and raise ObjectExists."""
    if is_first(client, address, version):
        return
    _take_back(client, address, version)
    raise ObjectExists(f"{address.url} exists already: another created it first")


def find_own_if_first(client: S3Client, address: Address, etag: str, size: int) -> str:
    """As ``keep_if_first``, where the server did not say which version it made: return one with its bytes."""
    versions = _since_free(client, address, None)
    content = (bare_etag(etag), size)
    own = [item["VersionId"] for item in versions if _content(item) == content]
    if own and _content(versions[-1]) == content:
        return own[0]
    for version in own:  # who else wrote these bytes has lost too
        _take_back(client, address, version)
    raise ObjectExists(f"{address.url} exists already: another created it first")


def is_first(client: S3Client, address: Address, version: str) -> bool:
    """Whether a version was the first, or has the bytes of the first."""
    versions = _since_free(client, address, version)
    own = [item for item in versions if item["VersionId"] == version]
    return bool(own) and _content(own[0]) == _content(versions[-1])


def _take_back(client: S3Client, address: Address, version: str) -> None:
    try:
        with translated(address):
            client.delete_object(**address.names, VersionId=version)
    except AccessDenied as exc:
        raise AccessDenied(
            f"{address.url}: another created it first, and our version {version} on top cannot be removed",
            hint="Allow s3:DeleteObjectVersion, and remove that version",
        ) from exc


def _content(version: ObjectVersionTypeDef) -> tuple[str, int]:
    """What is equal for versions of the same bytes; where a server's tags differ all the same, they count as others."""
    return bare_etag(version["ETag"]), version["Size"]


def _since_free(client: S3Client, address: Address, version: str | None) -> list[ObjectVersionTypeDef]:
    """Versions of the key since it was last free, newest first; ``version`` among them, unless it is gone."""
    versions: list[ObjectVersionTypeDef] = []
    freed: datetime | None = None
    try:
        with translated(address):
            for page in client.get_paginator("list_object_versions").paginate(
                Bucket=address.bucket, Prefix=address.key
            ):
                found = page.get("Versions", [])
                versions += [item for item in found if item["Key"] == address.key]
                for marker in page.get("DeleteMarkers", []):
                    if marker["Key"] == address.key and (freed is None or marker["LastModified"] > freed):
                        freed = marker["LastModified"]
                if any(item["Key"] != address.key for item in found):
                    break  # keys come in order, ours is the first of its prefix
    except AccessDenied as exc:
        raise AccessDenied(
            f"{exc.message}: nobody can tell who created it first",
            hint="On this server publishing needs s3:ListBucketVersions",
        ) from exc
    return [item for item in versions if freed is None or item["LastModified"] > freed or item["VersionId"] == version]
