"""Who was first under a key of a versioned bucket, on servers that let several creators succeed.

Owns: the rule by which all of them agree, and taking a version back. Must not know: how versions are made. Works on a
boto3 client given to it.

The oldest version since the key was last free decides: every creator looks at the versions after its own, and one
that was not first, with other bytes, removes its version and has lost. The order of versions is settled by the
bucket's index before a write is answered, so all agree on who was first. A version with the bytes of the first one
stays, whoever made it: nobody loses by it, and whoever found it meanwhile may go on naming it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg.errors import AccessDenied, ObjectExists
from fusepkg.store._botocore import translated
from fusepkg.store._s3_answers import bare_etag

if TYPE_CHECKING:
    from datetime import datetime

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectVersionTypeDef

    from fusepkg.store._s3_answers import Target


@dataclass(frozen=True, slots=True)
class Place:
    """One key."""

    bucket: str
    key: str
    target: Target


def settle(client: S3Client, place: Place, version: str) -> None:
    """Keep the version just made if it is there to stay, else take it back and raise ObjectExists."""
    if stays(client, place, version):
        return
    _take_back(client, place, version)
    raise ObjectExists(f"{place.target.url} exists already: another created it first")


def settle_unnamed(client: S3Client, place: Place, etag: str, size: int) -> str:
    """As ``settle``, where the server did not say which version it made; returns one with the bytes just written."""
    versions = _since_free(client, place, None)
    content = (bare_etag(etag), size)
    own = [item["VersionId"] for item in versions if _content(item) == content]
    if own and _content(versions[-1]) == content:
        return own[0]
    for version in own:  # who else wrote these bytes has lost too
        _take_back(client, place, version)
    raise ObjectExists(f"{place.target.url} exists already: another created it first")


def stays(client: S3Client, place: Place, version: str) -> bool:
    """Whether a version was the first, or has the bytes of the first."""
    versions = _since_free(client, place, version)
    own = [item for item in versions if item["VersionId"] == version]
    return bool(own) and _content(own[0]) == _content(versions[-1])


def _take_back(client: S3Client, place: Place, version: str) -> None:
    try:
        with translated(place.target):
            client.delete_object(Bucket=place.bucket, Key=place.key, VersionId=version)
    except AccessDenied as exc:
        raise AccessDenied(
            f"{place.target.url}: another created it first, and our version {version} on top cannot be removed",
            hint="Allow s3:DeleteObjectVersion, and remove that version",
        ) from exc


def _content(version: ObjectVersionTypeDef) -> tuple[str, int]:
    """What is equal for versions of the same bytes; where a server's tags differ all the same, they count as others."""
    return bare_etag(version["ETag"]), version["Size"]


def _since_free(client: S3Client, place: Place, version: str | None) -> list[ObjectVersionTypeDef]:
    """Versions of the key since it was last free, newest first; ``version`` among them, unless it is gone."""
    versions: list[ObjectVersionTypeDef] = []
    freed: datetime | None = None
    try:
        with translated(place.target):
            for page in client.get_paginator("list_object_versions").paginate(Bucket=place.bucket, Prefix=place.key):
                found = page.get("Versions", [])
                versions += [item for item in found if item["Key"] == place.key]
                for marker in page.get("DeleteMarkers", []):
                    if marker["Key"] == place.key and (freed is None or marker["LastModified"] > freed):
                        freed = marker["LastModified"]
                if any(item["Key"] != place.key for item in found):
                    break  # keys come in order, ours is the first of its prefix
    except AccessDenied as exc:
        raise AccessDenied(
            f"{exc.message}: nobody can tell who created it first",
            hint="On this server publishing needs s3:ListBucketVersions",
        ) from exc
    return [item for item in versions if freed is None or item["LastModified"] > freed or item["VersionId"] == version]
