"""What S3 tells of many objects, or of the parts of one, beyond a plain listing.

Owns: listing current versions, and the sizes of an object's parts. Must not know: what they are for. Works on a boto3
client given to it; called by ``s3`` only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fusepkg.errors import AccessDenied, RemoteError
from fusepkg.store._botocore import translated
from fusepkg.store._s3_answers import real_version
from fusepkg.store.protocol import ObjectInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

    from fusepkg.store._s3_answers import Target


class VersionsDenied(Exception):
    """These credentials may not list versions; nothing was listed."""


def versions(client: S3Client, bucket: str, prefix: str, target: Target) -> Iterator[ObjectInfo]:
    """The current version of every object whose key starts with ``prefix``, in byte order of keys."""
    names: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix}
    while True:
        try:
            with translated(target):
                page = client.list_object_versions(**names)
        except AccessDenied as exc:
            if "KeyMarker" in names:
                raise
            raise VersionsDenied from exc
        for item in page.get("Versions", ()):
            if item["IsLatest"]:
                yield ObjectInfo(item["Key"], item["Size"], real_version(item["VersionId"]))
        if not page.get("IsTruncated"):
            return
        names |= {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}


def part_bytes(client: S3Client, names: dict[str, Any], target: Target) -> list[int] | None:
    """Sizes of an object's parts; None where they are not told."""
    sizes: list[int] = []
    marker: dict[str, Any] = {}
    while True:
        try:
            with translated(target):
                answer = client.get_object_attributes(**names, **marker, ObjectAttributes=["ObjectParts"])
        except RemoteError as exc:
            if exc.retryable:
                raise
            return None
        found = answer.get("ObjectParts", {})
        sizes += [part["Size"] for part in found.get("Parts", ())]
        if not found.get("IsTruncated"):
            return sizes if sizes and len(sizes) == found.get("TotalPartsCount") else None
        marker = {"PartNumberMarker": found["NextPartNumberMarker"]}
