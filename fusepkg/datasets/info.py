"""What a dataset is beside its rows: title, description, times; and which datasets a bucket has."""

from __future__ import annotations

import enum
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fusepkg.datasets.rows import is_like, time_of
from fusepkg.errors import AccessDenied, BucketNotFound, DataUnfit, ObjectMissing, UsageError
from fusepkg.model.reference import DEFAULT_TAG, Reference
from fusepkg.registry import layout
from fusepkg.registry.catalogue import list_packages
from fusepkg.registry.tags import READ_THREADS, tag_history

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fusepkg.model.reference import BucketUrl
    from fusepkg.store.protocol import ObjectStore

FORMAT = 1

HEADER = "dataset"
"""Key of a package's metadata that says it is a dataset."""

ABOUT = "dataset.json"
"""A file of every dataset with the same facts, for those who mount it; so no dataset is empty."""

_HEADER_BYTES = 1 << 16
"""Read of a manifest for its header: a longer one is no dataset's."""


class StorageLocation(enum.IntEnum):
    """Where the data of a dataset lie; the numbers are Encord's."""

    CORD_STORAGE = 0
    """The embedded registry, or a directory."""

    AWS = 1
    """A bucket of S3, or of a server that speaks its protocol."""


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """A dataset in a list. ``dataset_hash`` is what ``get_dataset`` takes: the package's name, ``bucket/name``.

    ``user_hash`` is who made it, ``user@host``.
    """

    dataset_hash: str
    user_hash: str
    title: str
    description: str
    type: StorageLocation
    created_at: datetime
    last_edited_at: datetime

    def as_meta(self) -> dict[str, Any]:
        """Return it as the package's metadata hold it."""
        return {
            "format": FORMAT,
            "title": self.title,
            "description": self.description,
            "created_at": self.created_at.isoformat(timespec="milliseconds"),
            "user_hash": self.user_hash,
        }


def location_of(bucket: BucketUrl) -> StorageLocation:
    """Return where the datasets of a bucket lie."""
    return StorageLocation.AWS if bucket.scheme == "s3" else StorageLocation.CORD_STORAGE


def name_for(title: str) -> str:
    """Return the package name for a title: letters and digits of any script, in lower case, joined by hyphens.

    Raises DataUnfit for a title that has none.
    """
    name = re.sub(r"[^\w.]+", "-", title.lower()).strip("-._")[:100]
    if not name:
        raise DataUnfit(f"the title {title!r} holds no letter", hint="Name the package with name=, or --name")
    return name


def info_of(reference: Reference, meta: Any, edited: datetime) -> DatasetInfo | None:  # noqa: ANN401 - JSON
    """Return what a package's metadata say of a dataset; None if it is none, or of a format not known here."""
    said = meta.get(HEADER) if isinstance(meta, dict) else None
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        return None
    try:
        created = time_of(str(said.get("created_at")), "created_at")
    except UsageError:  # others write there too
        created = None
    return DatasetInfo(
        reference.package,
        str(said.get("user_hash", "")),
        str(said.get("title", "")),
        str(said.get("description", "")),
        location_of(reference.bucket),
        created or edited,
        edited,
    )


def list_datasets(store: ObjectStore, bucket: BucketUrl) -> list[DatasetInfo]:
    """Return the datasets of a bucket by name: one LIST, and three small requests for each package.

    Raises BucketNotFound, AccessDenied, RemoteError.
    """

    def read(name: str) -> DatasetInfo | None:
        moves = tag_history(store, name, DEFAULT_TAG, limit=1)
        if not moves:
            return None
        key = layout.manifest_key(name, moves[0].top_hash)
        try:
            header = json.loads(store.get(key, length=_HEADER_BYTES).partition(b"\n")[0])
        except (ObjectMissing, AccessDenied, ValueError, RecursionError):
            return None
        edited = datetime.fromisoformat(moves[0].time)
        return info_of(Reference(bucket, name), header.get("user_meta") if isinstance(header, dict) else None, edited)

    try:
        names = list_packages(store)
    except BucketNotFound:
        if bucket.scheme == "s3":
            raise
        return []  # a directory that the first push makes
    with ThreadPoolExecutor(READ_THREADS, thread_name_prefix="fusepkg-datasets") as threads:
        return [found for found in threads.map(read, names) if found is not None]


def select_datasets(
    found: Iterable[DatasetInfo],
    *,
    title_eq: str | None = None,
    title_like: str | None = None,
    desc_eq: str | None = None,
    desc_like: str | None = None,
    created_before: datetime | str | None = None,
    created_after: datetime | str | None = None,
    edited_before: datetime | str | None = None,
    edited_after: datetime | str | None = None,
) -> list[DatasetInfo]:
    """Return the datasets that fit all that is said; ``_like`` as SQL's LIKE. Raises UsageError."""
    made = time_of(created_after, "created_after"), time_of(created_before, "created_before")
    edited = time_of(edited_after, "edited_after"), time_of(edited_before, "edited_before")
    return [
        one
        for one in found
        if (title_eq is None or one.title == title_eq)
        and (title_like is None or is_like(one.title, title_like))
        and (desc_eq is None or one.description == desc_eq)
        and (desc_like is None or is_like(one.description, desc_like))
        and _is_between(one.created_at, *made)
        and _is_between(one.last_edited_at, *edited)
    ]


def now() -> datetime:
    """Return this moment, in whole milliseconds."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _is_between(when: datetime, after: datetime | None, before: datetime | None) -> bool:
    return (after is None or when > after) and (before is None or when < before)
