"""Where an object's bytes lie: ``s3://bucket/key?versionId=...`` or ``file:///path``, as manifests write it.

Owns: parsing and writing these URLs byte for byte as quilt3 does. Must not know: how the object is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from fusepkg.errors import ManifestInvalid

_SAFE = "/-_.~"
_UNENCODED = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""What no URL holds as it is; urlsplit would drop some of these silently, and so name another object."""

_PLAIN = re.compile(r"(?:s3://([A-Za-z0-9._-]+)/|file://(?=/))([A-Za-z0-9._~/-]+)(?:\?versionId=([A-Za-z0-9._~-]+))?")
"""URLs with nothing to decode, as nearly all are: reading a file parses one, and this takes a quarter of the time."""


@dataclass(frozen=True, slots=True)
class PhysicalKey:
    """One object: ``scheme`` ``s3`` (``bucket``, ``key``, perhaps ``version``) or ``file`` (``key`` is the path)."""

    scheme: str
    bucket: str
    key: str
    version: str | None = None

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
    if _UNENCODED.search(url):
        raise ManifestInvalid(f"physical key {url!r} holds a character that must be percent-encoded")
    try:
        parts = urlsplit(url)
    except ValueError as exc:
        raise ManifestInvalid(f"physical key {url!r} is not a URL") from exc
    key = unquote(parts.path)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not key.startswith("/") or "\0" in key or parts.query:
            raise ManifestInvalid(f"physical key {url!r} does not name an absolute path")
        return PhysicalKey("file", "", key)
    if parts.scheme != "s3":
        raise ManifestInvalid(f"physical key {url!r} has the unknown scheme {parts.scheme!r}")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    version = query.pop("versionId", "") or None
    if query or not parts.netloc or len(key) < 2:
        raise ManifestInvalid(f"physical key {url!r} does not name an object in a bucket")
    return PhysicalKey("s3", parts.netloc, key[1:], version)
