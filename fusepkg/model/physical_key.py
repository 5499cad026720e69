"""Where an object's bytes lie: ``s3://bucket/key?versionId=...`` or ``file:///path``, as manifests write it.

URLs are parsed and written byte for byte as quilt3 does. Manifests come from strangers, so what no server could have as
an object is refused here, before it reaches a client.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from fusepkg.errors import ManifestInvalid

MAX_PATH_BYTES = 4095
"""Longest path and longest logical key, in UTF-8 bytes: the kernel's PATH_MAX less the closing NUL."""

_SAFE = "/-_.~"
_UNENCODED = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""What no URL holds as it is; urlsplit would drop some of these silently, and so name another object."""

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
"""What S3 has ever allowed as a bucket's name, and other servers do."""

_VERSION = re.compile(r"[\x20-\x7e]{1,1024}")

MAX_S3_KEY_BYTES = 4096
"""Longest key of an object, in UTF-8 bytes. S3 itself stops at 1024, other servers do not all."""

_SHOWN_CHARACTERS = 120
"""How much of a URL an error message repeats."""

_PLAIN = re.compile(
    r"(?:s3://([A-Za-z0-9][A-Za-z0-9._-]{0,254})/|file://(?=/))([A-Za-z0-9._~/-]{1,1024})"
    r"(?:\?versionId=([A-Za-z0-9._~-]{1,1024}))?"
)
"""URLs with nothing to decode, as nearly all are: reading a file parses one, and this takes a quarter of the time."""


@dataclass(frozen=True, slots=True)
class PhysicalKey:
    """One object: ``scheme`` ``s3`` (``bucket``, ``key``, perhaps ``version``) or ``file`` (``key`` is the path)."""

    scheme: str
    bucket: str
    key: str
    version: str | None = None

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        if self.scheme == "file":
            return f"file://{quote(self.key, safe=_SAFE)}"
        query = f"?versionId={quote_plus(self.version)}" if self.version is not None else ""
        return f"s3://{self.bucket}/{quote(self.key, safe=_SAFE)}{query}"

    @property
    def readable(self) -> str:
        """The same for people: nothing percent-encoded, so that names look as they do everywhere else."""
        return f"file://{self.key}" if self.scheme == "file" else f"s3://{self.bucket}/{self.key}"


def parse_physical_key(url: str) -> PhysicalKey:
    """Read a physical key; raises ManifestInvalid (without a line: the caller knows it)."""
    if (plain := _PLAIN.fullmatch(url)) and (plain[1] or not plain[3]):
        return PhysicalKey("s3", plain[1], plain[2], plain[3]) if plain[1] else PhysicalKey("file", "", plain[2])
    shown = repr(url[:_SHOWN_CHARACTERS])
    if _UNENCODED.search(url):
        raise ManifestInvalid(f"physical key {shown} holds a character that must be percent-encoded")
    try:
        parts = urlsplit(url)
        key = unquote(parts.path, errors="strict")
        query = dict(parse_qsl(parts.query, keep_blank_values=True, errors="strict"))
    except UnicodeDecodeError as exc:
        raise ManifestInvalid(f"physical key {shown} is not UTF-8") from exc
    except ValueError as exc:
        raise ManifestInvalid(f"physical key {shown} is not a URL") from exc
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not key.startswith("/") or "\0" in key or parts.query:
            raise ManifestInvalid(f"physical key {shown} does not name an absolute path")
        if len(key.encode()) > MAX_PATH_BYTES:
            raise ManifestInvalid(f"physical key {shown} names a path of more than {MAX_PATH_BYTES} bytes")
        return PhysicalKey("file", "", key)
    if parts.scheme != "s3":
        raise ManifestInvalid(f"physical key {shown} has the unknown scheme {parts.scheme[:20]!r}")
    version = query.pop("versionId", "") or None
    if query or not parts.netloc or len(key) < 2:
        raise ManifestInvalid(f"physical key {shown} does not name an object in a bucket")
    _check_object(shown, parts.netloc, key[1:], version)
    return PhysicalKey("s3", parts.netloc, key[1:], version)


def _check_object(shown: str, bucket: str, key: str, version: str | None) -> None:
    """Refuse what no S3 server could hold."""
    if not _BUCKET.fullmatch(bucket):
        raise ManifestInvalid(f"physical key {shown} has {bucket[:_SHOWN_CHARACTERS]!r} for a bucket")
    if "\0" in key:
        raise ManifestInvalid(f"physical key {shown} holds a NUL character")
    if len(key.encode()) > MAX_S3_KEY_BYTES:
        raise ManifestInvalid(f"physical key {shown} has a key of more than {MAX_S3_KEY_BYTES} bytes")
    if version is not None and not _VERSION.fullmatch(version):
        raise ManifestInvalid(f"physical key {shown} has {version[:_SHOWN_CHARACTERS]!r} for a version")
