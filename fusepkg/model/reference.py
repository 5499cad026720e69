"""What a user types to name a package: ``[scheme://]bucket/name[:tag][@hash]``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fusepkg.errors import InvalidReference

DEFAULT_TAG = "latest"
LOCAL_BUCKET = "local"
"""Without a scheme, this bucket is the embedded registry and not an S3 bucket."""

_FORM = "A reference is [scheme://]bucket/name[:tag][@hash], for example my-bucket/my-dataset:v1"
_TAG_FORM = "A tag has letters, digits, '_', '-' and '.'"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_NAME_PART = re.compile(r"[\w-][\w.-]{0,127}")
_TAG = re.compile(r"[\w-][\w.-]{0,127}")
_HASH = re.compile(r"[0-9a-f]{6,64}")


@dataclass(frozen=True, slots=True)
class BucketUrl:
    """Where a registry lies. ``scheme`` is ``s3``, ``file`` or ``local``; ``place`` the bucket or directory."""

    scheme: str
    place: str

    def __str__(self) -> str:
        if self.scheme == LOCAL_BUCKET:
            return LOCAL_BUCKET
        if self.scheme == "s3" and self.place != LOCAL_BUCKET:
            return self.place
        return f"{self.scheme}://{self.place}"


@dataclass(frozen=True, slots=True)
class Reference:
    """One package, and which of its versions: ``top_hash`` (6 to 64 hex digits) wins over ``tag``."""

    bucket: BucketUrl
    name: str
    tag: str = DEFAULT_TAG
    top_hash: str | None = None

    @property
    def package(self) -> str:
        """The package without a version, as a user writes it."""
        separator = "//" if self.bucket.scheme == "file" and "/" in self.name else "/"
        return f"{str(self.bucket).rstrip('/')}{separator}{self.name}"

    def __str__(self) -> str:
        return f"{self.package}@{self.top_hash}" if self.top_hash else f"{self.package}:{self.tag}"


def parse_bucket(text: str) -> BucketUrl:
    """Read a bucket as a user names it; raises InvalidReference."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = (LOCAL_BUCKET if text == LOCAL_BUCKET else "s3"), text
    if scheme == LOCAL_BUCKET:
        return BucketUrl(LOCAL_BUCKET, "")
    if scheme == "file":
        if not rest.startswith("/") or "\0" in rest:
            raise InvalidReference(f"{text!r} does not name an absolute directory", hint="Write file:///any/dir/")
        return BucketUrl("file", rest.rstrip("/") or "/")
    if scheme != "s3":
        raise InvalidReference(f"{text!r} has the unknown scheme {scheme!r}", hint="Use s3:// or file://")
    if not _BUCKET.fullmatch(rest):
        raise InvalidReference(f"{rest!r} is not a bucket name", hint=_FORM)
    return BucketUrl("s3", rest)


def parse_reference(text: str) -> Reference:
    """Read a reference; raises InvalidReference, naming the part that is wrong.

    In a ``file://`` reference the last part of the path is the name; ``file:///dir//namespace/name`` gives a name
    with a namespace.
    """
    path, at, top_hash = text.partition("@") if "@" in text.rpartition("/")[2] else (text, "", "")
    if at and not _HASH.fullmatch(top_hash):
        raise InvalidReference(f"{top_hash!r} is not a hash", hint="Write 6 to 64 lower-case hex digits after @")
    head, slash, last = path.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon:
        parse_tag(tag)
    if not slash or not last:
        raise InvalidReference(f"{text!r} names no package", hint=_FORM)
    bucket, name = _split_bucket(f"{head}/{last}", text)
    if name.count("/") > 1 or not all(_NAME_PART.fullmatch(part) for part in name.split("/")):
        raise InvalidReference(f"{name!r} is not a package name", hint="Write dataset or namespace/dataset")
    return Reference(bucket, name, tag or DEFAULT_TAG, top_hash or None)


def parse_tag(text: str) -> str:
    """A tag as a user names it, without its package; raises InvalidReference."""
    if not _TAG.fullmatch(text):
        raise InvalidReference(f"{text!r} is not a tag", hint=_TAG_FORM)
    return text


def _split_bucket(path: str, text: str) -> tuple[BucketUrl, str]:
    scheme, separator, rest = path.partition("://")
    if separator and scheme == "file":
        directory, double, name = rest[1:].partition("//")
        if not double:
            directory, _, name = rest[1:].rpartition("/")
        return parse_bucket(f"file:///{directory}"), name
    bucket, slash, name = (rest if separator else path).partition("/")
    if not slash or not bucket or not name:
        raise InvalidReference(f"{text!r} names no package", hint=_FORM)
    return parse_bucket(f"{scheme}://{bucket}" if separator else bucket), name
