"""What an HTTP request asks of S3, told from its method, path, query and headers; path-style addresses only."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

_BY_SUBRESOURCE = {
    ("POST", "uploads"): "CreateMultipartUpload",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
    ("GET", "uploadId"): "ListParts",
    ("PUT", "partNumber"): "UploadPart",
    ("POST", "delete"): "DeleteObjects",
    ("GET", "versions"): "ListObjectVersions",
    ("GET", "uploads"): "ListMultipartUploads",
    ("GET", "location"): "GetBucketLocation",
    ("GET", "versioning"): "GetBucketVersioning",
    ("PUT", "versioning"): "PutBucketVersioning",
    ("PUT", "policy"): "PutBucketPolicy",
    ("GET", "tagging"): "GetTagging",
    ("GET", "attributes"): "GetObjectAttributes",
}
_ON_OBJECT = {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject"}
_ON_BUCKET = {"GET": "ListObjects", "HEAD": "HeadBucket", "PUT": "CreateBucket", "DELETE": "DeleteBucket"}


def split_target(target: str) -> tuple[str, str, dict[str, str]]:
    """Bucket, key and query of a request target."""
    parts = urlsplit(target)
    bucket, _, key = parts.path.removeprefix("/").partition("/")
    return unquote(bucket), unquote(key), dict(parse_qsl(parts.query, keep_blank_values=True))


def operation_of(method: str, target: str, headers: Mapping[str, str]) -> str:
    """The S3 API's name of a request; both versions of listing are ``ListObjects``. ``headers`` in lower case."""
    bucket, key, query = split_target(target)
    for (known_method, subresource), name in _BY_SUBRESOURCE.items():
        if method == known_method and subresource in query:
            return f"{name}Copy" if name == "UploadPart" and "x-amz-copy-source" in headers else name
    if key and method == "PUT" and "x-amz-copy-source" in headers:
        return "CopyObject"
    if not bucket:
        return "ListBuckets"
    return (_ON_OBJECT if key else _ON_BUCKET).get(method, f"{method} {target}")
