"""What S3 tells of many objects, and of the parts of one."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Any

from fusepkg.errors import AccessDenied, RemoteError
from fusepkg.store.protocol import ObjectInfo, directories_of
from fusepkg.store.s3.answers import bare_etag, real_version
from fusepkg.store.s3.botocore import translated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef

    from fusepkg.store.s3.address import Address

PAGE_KEYS = 1000
"""Keys per page of a listing: the most S3 gives."""

_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""Characters a listing cannot hold in its echo of the prefix (XML 1.0): servers then answer something unreadable."""


def objects(client: S3Client, bucket: Address, prefix: str, limit: int | None) -> Iterator[ObjectInfo]:
    """Objects whose key starts with ``prefix``, in byte order of keys."""
    asked = _listable(prefix)
    page_keys = PAGE_KEYS if limit is None or asked != prefix else min(limit, PAGE_KEYS)
    if not page_keys:
        return iter(())
    pages = _pages(client, bucket, {"Prefix": asked, "MaxKeys": page_keys})
    items = (item for page in pages for item in page.get("Contents", ()))
    return islice(
        (
            ObjectInfo(item["Key"], item["Size"], etag=bare_etag(item.get("ETag", "")) or None)
            for item in items
            if item["Key"].startswith(prefix)
        ),
        limit,
    )


def directories(client: S3Client, bucket: Address, prefix: str) -> Iterator[str]:
    """What keys with this prefix begin with, up to the next ``/`` past it."""
    if _listable(prefix) != prefix:
        yield from directories_of(objects(client, bucket, prefix, None), prefix)
        return
    for page in _pages(client, bucket, {"Prefix": prefix, "Delimiter": "/", "MaxKeys": PAGE_KEYS}):
        for item in page.get("CommonPrefixes", ()):
            yield item["Prefix"]


def versions(client: S3Client, bucket: Address, prefix: str) -> Iterator[ObjectInfo]:
    """The current version of every object with this prefix; no versions where they may not be listed."""
    try:
        for info in _versions(client, bucket, _listable(prefix)):
            if info.key.startswith(prefix):
                yield info
    except _VersionsDenied:
        yield from objects(client, bucket, prefix, None)


class _VersionsDenied(Exception):
    """These credentials may not list versions; nothing was listed."""


def _versions(client: S3Client, bucket: Address, prefix: str) -> Iterator[ObjectInfo]:
    names: dict[str, Any] = {"Bucket": bucket.bucket, "Prefix": prefix, "MaxKeys": PAGE_KEYS}
    while True:
        try:
            with translated(bucket):
                page = client.list_object_versions(**names)
        except AccessDenied as exc:
            if "KeyMarker" in names:
                raise
            raise _VersionsDenied from exc
        for item in page.get("Versions", ()):
            if item["IsLatest"]:
                etag = bare_etag(item.get("ETag", "")) or None
                yield ObjectInfo(item["Key"], item["Size"], real_version(item["VersionId"]), etag=etag)
        if not page.get("IsTruncated"):
            return
        names |= {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}


def _pages(client: S3Client, bucket: Address, question: dict[str, Any]) -> Iterator[ListObjectsV2OutputTypeDef]:
    names = {"Bucket": bucket.bucket} | question
    while True:
        with translated(bucket):
            page = client.list_objects_v2(**names)
        yield page
        if not page.get("NextContinuationToken"):
            return
        names["ContinuationToken"] = page["NextContinuationToken"]


def _listable(prefix: str) -> str:
    """The longest beginning of a prefix that a listing can be asked for."""
    unfit = _NO_XML.search(prefix)
    return prefix[: unfit.start()] if unfit else prefix


def part_bytes(client: S3Client, address: Address, version: str | None) -> list[int] | None:
    """Sizes of an object's parts; None where they are not told."""
    names: dict[str, Any] = address.names if version is None else {**address.names, "VersionId": version}
    sizes: list[int] = []
    marker: dict[str, Any] = {}
    while True:
        try:
            with translated(address):
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
