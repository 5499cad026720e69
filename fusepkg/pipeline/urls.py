"""Dependencies that are URLs: what DVC notes of them is what the server says changes with the bytes."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

import msgspec

from fusepkg.errors import ObjectMissing, RemoteUnavailable, RepositoryUnfit
from fusepkg.model.physical_key import parse_physical_key

if TYPE_CHECKING:
    from fusepkg.app.context import Context

SCHEMES = ("s3", "http", "https")
_TIMEOUT_S = 30.0


class UrlFact(msgspec.Struct, frozen=True, omit_defaults=True):
    """What `dvc.lock` says of a URL: ``etag`` of an object in S3, ``checksum`` of one by HTTP. Size in bytes."""

    etag: str | None = None
    checksum: str | None = None
    size: int | None = None

    @property
    def mark(self) -> str | None:
        """What changes with the bytes."""
        return self.etag or self.checksum


def why_refused(url: str) -> str:
    """Return why a URL cannot be a dependency; empty if it can."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        return f"{parts.scheme}:// is no path on this machine, and none of s3://, http:// and https://"
    if parts.username is not None or parts.password is not None:
        return f"a URL of {parts.hostname} names a user or password, which would stand in dvc.lock"
    if not parts.netloc or not parts.path.strip("/"):
        return f"{url[:80]!r} names no object"
    return ""


def fact_of(app: Context, url: str) -> UrlFact:
    """Ask what a URL holds now; no bytes are read. Raises RepositoryUnfit if that cannot be told, RemoteError."""
    return _in_s3(app, url) if urlsplit(url).scheme == "s3" else _by_http(url)


def _in_s3(app: Context, url: str) -> UrlFact:
    store, key = app.stores.for_key(parse_physical_key(url))
    try:
        found = store.head(key)
    except ObjectMissing:
        _is_missing(url, "Name an object; a folder in a bucket is no dependency here, but a package of it can be")
    return UrlFact(etag=found.etag, size=found.size)


def _by_http(url: str) -> UrlFact:
    request = urllib.request.Request(url, method="HEAD", headers={"Accept-Encoding": "identity"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            told = answer.headers
    except urllib.error.HTTPError as exc:
        exc.close()
        if exc.code in (404, 410):
            _is_missing(url, "Put it there, or correct dvc.yaml")
        raise RemoteUnavailable(f"{url}: the server answered {exc.code} {exc.reason}") from exc
    except (OSError, ValueError) as exc:
        raise RemoteUnavailable(f"{url} cannot be asked: {exc}") from exc
    mark, size = told.get("ETag") or told.get("Content-MD5"), told.get("Content-Length", "")
    if not mark:
        raise RepositoryUnfit(
            f"{url}: its server names no ETag, so nothing tells whether it has changed",
            hint="DVC refuses it for the same reason: download it, and depend on the file",
        )
    return UrlFact(checksum=mark, size=int(size) if size.isdecimal() else None)


def _is_missing(url: str, hint: str) -> NoReturn:
    raise RepositoryUnfit(f"{url} is a dependency, and is not there", hint=hint)
