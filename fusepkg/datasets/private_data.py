"""The JSON that says which objects of buckets become data rows (Encord's private-cloud format), checked when read."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from fusepkg.datasets.rows import DataType
from fusepkg.errors import DataUnfit, FusepkgError, ManifestInvalid
from fusepkg.model.physical_key import PhysicalKey, parse_physical_key
from fusepkg.publish.draft.metadata import checked_meta

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

MAX_FILE_BYTES = 1 << 30
"""Of a file of JSON: it is read whole."""

_KINDS = {
    "videos": DataType.VIDEO,
    "images": DataType.IMAGE,
    "image_groups": DataType.IMG_GROUP,
    "dicom_series": DataType.DICOM,
}

_AWS_HOST = re.compile(r"(?:(?P<bucket>.+)\.)?s3[.-](?:dualstack\.)?(?:[a-z0-9-]+\.)?amazonaws\.com(?:\.cn)?")

_FORM = (
    'The form is {"videos": [{"objectUrl": "s3://bucket/a.mp4"}], "images": [...], "image_groups": [{"title": "t",'
    ' "objectUrl_0": "...", "objectUrl_1": "..."}], "dicom_series": [...]}'
)


@dataclass(frozen=True, slots=True)
class Line:
    """One row that is asked for. ``where`` is its place in the JSON, such as ``videos[0]``."""

    where: str
    kind: DataType
    urls: Sequence[str]
    title: str | None
    client_metadata: Mapping[str, Any] | None = None
    split: bool = True


@dataclass(slots=True)
class FailedLine:
    """A row that could not be added, and why."""

    where: str
    urls: Sequence[str]
    reason: str
    code: str = DataUnfit.code


@dataclass(slots=True)
class PrivateData:
    """What a JSON asks for: rows, and lines that cannot be understood."""

    lines: list[Line] = field(default_factory=list)
    failed: list[FailedLine] = field(default_factory=list)


def read_private_data(source: str | os.PathLike[str] | Mapping[str, Any]) -> PrivateData:
    """Read the JSON of a file, or one that has been read. Raises DataUnfit for one that is not of this form at all."""
    content = source if isinstance(source, dict) else _read_file(Path(source))  # type: ignore[arg-type]
    if not isinstance(content, dict):
        raise DataUnfit(f"the JSON of private data is not an object but {type(content).__name__}", hint=_FORM)
    wrong = [name for name in content if name not in _KINDS and name != "skip_duplicate_urls"]
    if wrong or not any(name in content for name in _KINDS):
        named = f"has {wrong[0]!r}, which is not known" if wrong else "names no data"
        raise DataUnfit(f"the JSON of private data {named}", hint=_FORM)
    found = PrivateData()
    for name, kind in _KINDS.items():
        items = content.get(name, [])
        if not isinstance(items, list):
            raise DataUnfit(f"{name} in the JSON of private data is not a list", hint=_FORM)
        for number, item in enumerate(items):
            try:
                found.lines.append(_line(f"{name}[{number}]", kind, item))
            except DataUnfit as exc:
                found.failed.append(FailedLine(f"{name}[{number}]", _urls(item), exc.message))
    return found


def place_of(url: str, endpoint: str | None) -> PhysicalKey:
    """Return the object that a URL names; ``endpoint`` is that of a server of one's own. Raises DataUnfit."""
    if url.startswith(("s3://", "file://")):
        try:
            return parse_physical_key(url)
        except ManifestInvalid as exc:
            raise DataUnfit(exc.message.removeprefix("manifest: ")) from exc
    try:
        parts = urlsplit(url)
        host, path = parts.hostname or "", unquote(parts.path, errors="strict").removeprefix("/")
    except ValueError as exc:
        raise DataUnfit(f"{url[:200]!r} is not a URL") from exc
    aws = _AWS_HOST.fullmatch(host)
    if parts.scheme not in ("http", "https") or not (aws or _is_at(url, endpoint)):
        raise DataUnfit(f"{url[:200]!r} names no object of S3", hint="Write s3://bucket/key")
    bucket = aws["bucket"] if aws else None
    key = path
    if bucket is None:
        bucket, _, key = path.partition("/")
    if not bucket or not key:
        raise DataUnfit(f"{url[:200]!r} names no object in a bucket", hint="Write s3://bucket/key")
    return parse_physical_key(str(PhysicalKey("s3", bucket, key)))


def _is_at(url: str, endpoint: str | None) -> bool:
    return bool(endpoint) and url.startswith(f"{str(endpoint).rstrip('/')}/")


def _read_file(path: Path) -> Any:  # noqa: ANN401 - JSON
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DataUnfit(f"{path} has more than {MAX_FILE_BYTES:,} bytes", hint="Split it")
        return json.loads(path.read_bytes())
    except OSError as exc:
        raise DataUnfit(f"{path} cannot be read: {exc.strerror or exc}") from exc
    except (ValueError, RecursionError) as exc:
        raise DataUnfit(f"{path} is not JSON: {exc}", hint=_FORM) from exc


def _line(where: str, kind: DataType, item: Any) -> Line:  # noqa: ANN401 - JSON
    if not isinstance(item, dict):
        raise DataUnfit("not an object of JSON")
    title, metadata = item.get("title"), item.get("clientMetadata")
    if not isinstance(title, str | None) or title == "":
        raise DataUnfit("title is not text")
    if not isinstance(metadata, dict | None):
        raise DataUnfit("clientMetadata is not an object of JSON")
    try:
        checked_meta({"title": title, "clientMetadata": metadata}, "it")
    except FusepkgError as exc:
        raise DataUnfit(exc.message) from exc
    split = item.get("createVideo", True)
    if not isinstance(split, bool):
        raise DataUnfit("createVideo is neither true nor false")
    urls = _urls(item)
    if kind in (DataType.VIDEO, DataType.IMAGE):
        if len(urls) != 1 or "objectUrl" not in item:
            raise DataUnfit("no objectUrl")
    elif not urls:
        raise DataUnfit("no objectUrl_0")
    elif title is None:
        raise DataUnfit("no title, which rows of several files need")
    return Line(where, kind, urls, title, metadata, split)


def _urls(item: Any) -> list[str]:  # noqa: ANN401 - JSON
    """Return the URLs of a line, in the order of their numbers."""
    return [url for _, url in sorted(_numbered(item))] if isinstance(item, dict) else []


def _numbered(item: dict[str, Any]) -> Iterator[tuple[int, str]]:
    for name, value in item.items():
        found = re.fullmatch(r"objectUrl(?:_(\d{1,9}))?", name)
        if found and isinstance(value, str):
            yield int(found[1] or 0), value
