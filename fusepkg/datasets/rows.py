"""The data rows of a dataset: videos, single pictures, groups of pictures, DICOM series, read from its package.

A row of one file is that entry's metadata. A row of several is the metadata of their directory, and each file's own
says its place (``data_sequence``).
"""

from __future__ import annotations

import enum
import hashlib
import re
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fusepkg.errors import DataUnfit, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from fusepkg.api.package import Package


class DataType(enum.StrEnum):
    """What a data row is."""

    VIDEO = "video"
    IMAGE = "image"
    IMG_GROUP = "img_group"
    DICOM = "dicom"


DIRECTORIES = {
    DataType.VIDEO: "videos",
    DataType.IMAGE: "images",
    DataType.IMG_GROUP: "image_groups",
    DataType.DICOM: "dicom_series",
}
"""Where the files of each kind lie in the package."""


@dataclass(frozen=True, slots=True)
class ImageData:
    """One picture of a group, or one file of a series; ``data_sequence`` is its place, from 0."""

    image_hash: str
    title: str
    data_sequence: int
    logical_key: str
    file_link: str
    file_type: str
    file_size: int
    width: int | None
    height: int | None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class DataRow:
    """One video, picture, group of pictures or DICOM series.

    ``uid`` (the data hash) stays the same whatever becomes of the row. ``logical_key`` is its file in the package, or
    its directory. ``file_link`` is where the file lies, None for several. ``duration`` is in seconds.
    """

    uid: str
    title: str
    data_type: DataType
    created_at: datetime
    last_edited_at: datetime
    logical_key: str
    file_link: str | None
    file_type: str
    file_size: int
    width: int | None
    height: int | None
    frames_per_second: float | None = None
    frames: int | None = None
    duration: float | None = None
    client_metadata: Mapping[str, Any] | None = None
    source: str | None = None
    images_data: Sequence[ImageData] | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    """All that the package says of it."""

    @property
    def data_hash(self) -> str:
        """Another name of ``uid``."""
        return self.uid

    @property
    def sources(self) -> tuple[str | None, ...]:
        """Where its files came from, in order."""
        return (self.source,) if self.images_data is None else tuple(one.source for one in self.images_data)


def data_hash_of(kind: DataType, title: str, digests: Iterable[str]) -> str:
    """Return the hash of a row that is being added: the same for the same title and bytes, so that a repeat is one."""
    text = "\0".join((kind, title, *digests)).encode("utf-8", "surrogateescape")
    return str(uuid.UUID(bytes=hashlib.sha256(text).digest()[:16]))


def read_rows(package: Package) -> list[DataRow]:
    """Return all data rows of a dataset, in the order of their names."""
    rows: list[DataRow] = []
    groups: dict[str, list[tuple[str, str, int, dict[str, Any]]]] = {}
    single = {f"{DIRECTORIES[kind]}/" for kind in (DataType.VIDEO, DataType.IMAGE)}
    several = {f"{DIRECTORIES[kind]}/" for kind in (DataType.IMG_GROUP, DataType.DICOM)}
    for entry in package:
        top, slash, rest = entry.logical_key.partition("/")
        if f"{top}{slash}" in single and _is_row(meta := entry.meta):
            rows.append(_row(entry.logical_key, meta, entry.physical_key, entry.size, None))
        elif f"{top}{slash}" in several and "/" in rest and "data_hash" in (meta := entry.meta):
            directory = f"{top}/{rest.partition('/')[0]}/"
            groups.setdefault(directory, []).append((entry.logical_key, entry.physical_key, entry.size, meta))
    for directory, files in groups.items():
        images = sorted((_image(*file) for file in files), key=lambda image: image.data_sequence)
        meta = package.get_metadata(directory)
        if _is_row(meta):
            rows.append(_row(directory, meta, None, sum(image.file_size for image in images), images))
    return rows


def find_row(package: Package, data_hash: str, dataset: str) -> DataRow:
    """Return one row by its hash; ``dataset`` names the dataset in errors. Raises DataUnfit."""
    for row in read_rows(package):
        if row.uid == data_hash:
            return row
    raise DataUnfit(f"{dataset} has no data row {data_hash}", hint="See those it has: fusepkg datasets data-rows")


def select_rows(
    rows: Iterable[DataRow],
    *,
    title_eq: str | None = None,
    title_like: str | None = None,
    created_before: datetime | str | None = None,
    created_after: datetime | str | None = None,
    data_types: Collection[DataType | str] | None = None,
    data_hashes: Collection[str] | None = None,
) -> list[DataRow]:
    """Return the rows that fit all that is said; ``title_like`` as SQL's LIKE. Raises UsageError."""
    before, after = time_of(created_before, "created_before"), time_of(created_after, "created_after")
    kinds = None if data_types is None else {kind_of(kind) for kind in data_types}
    return [
        row
        for row in rows
        if (title_eq is None or row.title == title_eq)
        and (title_like is None or is_like(row.title, title_like))
        and (before is None or row.created_at < before)
        and (after is None or row.created_at > after)
        and (kinds is None or row.data_type in kinds)
        and (data_hashes is None or row.uid in data_hashes)
    ]


def is_like(text: str, pattern: str) -> bool:
    """Return whether a text fits a pattern of SQL's LIKE: ``%`` is any text, ``_`` any character, ``\\`` escapes.

    Takes time in proportion to text times pattern at most, whatever a stranger's title is.
    """
    first, *others = _pieces(pattern)
    if not others:
        return len(text) == len(first) and _is_at(text, first, 0)
    last = others.pop()
    end = len(text) - len(last)
    if not (_is_at(text, first, 0) and end >= len(first) and _is_at(text, last, end)):
        return False
    at = len(first)
    for piece in others:
        found = next((place for place in range(at, end - len(piece) + 1) if _is_at(text, piece, place)), None)
        if found is None:
            return False
        at = found + len(piece)
    return True


def _pieces(pattern: str) -> list[list[str]]:
    """Cut a pattern at each ``%``; in a piece, an empty text stands for any character."""
    pieces: list[list[str]] = [[]]
    for escaped, plain in re.findall(r"\\(.)|(.)", pattern, re.DOTALL):
        if plain == "%":
            pieces.append([])
        else:
            pieces[-1].append(escaped or ("" if plain == "_" else plain))
    return pieces


def _is_at(text: str, piece: list[str], at: int) -> bool:
    rest = text[at : at + len(piece)]
    return len(rest) == len(piece) and all(wanted in ("", sign) for wanted, sign in zip(piece, rest, strict=True))


def kind_of(kind: DataType | str) -> DataType:
    """Return a kind by its name. Raises UsageError."""
    try:
        return DataType(str(kind).lower())
    except ValueError as exc:
        raise UsageError(f"{kind!r} is no kind of data", hint=f"Kinds are {', '.join(DataType)}") from exc


def time_of(when: datetime | str | None, name: str) -> datetime | None:
    """Return a time with its zone, UTC unless said. Raises UsageError."""
    try:
        found = datetime.fromisoformat(when) if isinstance(when, str) else when
    except ValueError as exc:
        raise UsageError(
            f"{name} is {when!r}, which is no time", hint="Write 2026-11-29 or 2026-11-29T03:00:00Z"
        ) from exc
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found


def _row(key: str, meta: dict[str, Any], link: str | None, size: int, images: list[ImageData] | None) -> DataRow:
    return DataRow(
        uid=str(meta["data_hash"]),
        title=str(meta.get("data_title", "")),
        data_type=DataType(meta["data_type"]),
        created_at=_stored_time(meta.get("created_at")),
        last_edited_at=_stored_time(meta.get("last_edited_at")),
        logical_key=key,
        file_link=link,
        file_type=str(meta.get("file_type", "")),
        file_size=size,
        width=meta.get("width"),
        height=meta.get("height"),
        frames_per_second=meta.get("frames_per_second"),
        frames=meta.get("frames"),
        duration=meta.get("duration"),
        client_metadata=meta.get("client_metadata"),
        source=meta.get("source"),
        images_data=images,
        meta=meta,
    )


def _image(key: str, link: str, size: int, meta: dict[str, Any]) -> ImageData:
    return ImageData(
        image_hash=str(meta.get("image_hash", "")),
        title=str(meta.get("title", "")),
        data_sequence=place if isinstance(place := meta.get("data_sequence"), int) else 0,
        logical_key=key,
        file_link=link,
        file_type=str(meta.get("file_type", "")),
        file_size=size,
        width=meta.get("width"),
        height=meta.get("height"),
        source=meta.get("source"),
    )


def _is_row(meta: dict[str, Any]) -> bool:
    return "data_hash" in meta and meta.get("data_type") in tuple(DataType)


def _stored_time(text: object) -> datetime:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
