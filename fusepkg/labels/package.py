"""The package that holds a set of labels: its versions, and the next one of a change."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusepkg.api.builder import PackageBuilder
from fusepkg.api.package import Package
from fusepkg.errors import PackageNotFound, TagNotFound, UnsupportedFormat
from fusepkg.fsspec.filesystem import file_system_for
from fusepkg.labels.documents import FINGERPRINT_FIELDS
from fusepkg.labels.segments import (
    CHANGE,
    DELETED,
    DELETED_SHARE,
    DOCUMENT,
    FORMAT,
    Segment,
    parse_segment,
    read_live,
    refuse_other_kinds,
    register_labels,
    to_merge,
    write_deleted,
    write_segment,
)
from fusepkg.opened.version import open_version
from fusepkg.publish.upload.many import is_new_directory
from fusepkg.query.engine import TIMEOUT_S, connect, deadline, lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import duckdb
    import pyarrow as pa

    from fusepkg.app.context import Context
    from fusepkg.labels.documents import Label
    from fusepkg.model.reference import Reference
    from fusepkg.opened.version import OpenVersion

SUFFIX = "-labels"
"""The labels of the pictures in ``bucket/dataset`` are the package ``bucket/dataset-labels``, with the same tags."""

_HEADER = "labels"


@dataclass(frozen=True, slots=True)
class LabelPackage:
    """One version of a set of labels; without a ``version`` there are none yet.

    ``count`` labels count, ``deleted`` of those written were taken out; ``changes`` is the number of the last change.
    """

    reference: Reference
    version: OpenVersion | None
    fields: tuple[str, ...]
    segments: tuple[Segment, ...] = ()
    count: int = 0
    deleted: int = 0
    changes: int = 0

    @property
    def hash(self) -> str | None:
        """The top hash of this version."""
        return self.version.index.top_hash if self.version else None

    @contextmanager
    def engine(self, timeout_s: float = TIMEOUT_S) -> Iterator[duckdb.DuckDBPyConnection]:
        """An engine with the view ``labels``, and no way to anything else, for as long as the block runs.

        Raises QueryInvalid, QueryStopped, RemoteError, IntegrityError.
        """
        files, root = file_system_for(self.version) if self.version else (None, "")
        with connect() as connection, deadline(connection, timeout_s, files):
            if files is not None:
                lock(connection, files, root)
            read_live(connection, root, self.segments, has_deleted=self.deleted > 0)
            yield connection


def labels_of(pictures: Reference) -> Reference:
    """Return the reference of the labels of pictures. A version is named by tag only: both change, each for itself."""
    return replace(pictures, name=f"{pictures.name}{SUFFIX}", top_hash=None)


def open_if_there(context: Context, reference: Reference) -> OpenVersion | None:
    """Open what a tag names; None where it names nothing yet. Raises PackageError, RemoteError."""
    if is_new_directory(context.store(reference.bucket)):
        return None
    try:
        return open_version(context, reference)
    except (PackageNotFound, TagNotFound):
        return None


def open_labels(
    context: Context, reference: Reference, *, fields: Sequence[str] | None, must_exist: bool
) -> LabelPackage:
    """Open the newest version of a set of labels. ``fields`` make the fingerprint of a set that is not there yet.

    Raises PackageNotFound and TagNotFound where it ``must_exist``, UnsupportedFormat.
    """
    version = open_if_there(context, reference)
    if version is None and must_exist:
        version = open_version(context, reference)  # raises, and says what there is
    if version is None:
        return LabelPackage(reference, None, tuple(fields or FINGERPRINT_FIELDS))
    package = Package.of_version(version)
    header = package.meta.get(_HEADER)
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise UnsupportedFormat(f"{package.name} holds no labels that this version of fusepkg knows")
    segments = [parse_segment(entry.logical_key, entry.meta) for entry in package]
    found = sorted((segment for segment in segments if segment), key=lambda segment: segment.first)
    return LabelPackage(
        reference,
        version,
        tuple(header["fingerprint_fields"]),
        tuple(found),
        header["count"],
        header["deleted"],
        header["changes"],
    )


# --- the next version ---


def check_kinds(opened: LabelPackage, labels: Sequence[Label]) -> None:
    """Raise LabelsUnfit where a field is an object in some labels, and a plain value or a list in others."""
    if not labels:
        return
    with opened.engine() as connection:
        register_labels(connection, labels, opened.changes + 1)
        refuse_other_kinds(connection, _merged_rows(connection, (), ()))


def push_change(
    opened: LabelPackage,
    added: Sequence[Label],
    deleted: Sequence[str],
    message: str | None,
    *,
    about: dict[str, Any],
) -> Package:
    """Publish a version with labels added, and with others, which are there, deleted by their fingerprints.

    Raises TagConflict where somebody else was first, LabelsUnfit, RemoteError.
    """
    change = opened.changes + 1
    if opened.version is None:
        builder = PackageBuilder(str(opened.reference), quiet=True)
        builder.draft.based_on[opened.reference.tag] = None
    else:
        builder = PackageBuilder.from_package(Package.of_version(opened.version), quiet=True)
    gone = opened.deleted + len(deleted)
    anew = gone * DELETED_SHARE > opened.count + len(added)
    with tempfile.TemporaryDirectory(prefix="fusepkg-labels-") as scratch:
        if added or anew:
            merged = len(opened.segments) if anew else to_merge(opened.segments, len(added))
            _set_segment(builder, opened, merged, added, deleted if anew else (), change, Path(scratch))
        if anew:
            gone = 0
            if opened.deleted:
                builder.delete(DELETED)
        elif deleted:
            write_deleted(_deleted_rows(opened, deleted, change), path := Path(scratch) / DELETED)
            builder.set(DELETED, path)
        builder.meta = {
            **builder.meta,
            _HEADER: {
                "format": FORMAT,
                "fingerprint_fields": list(opened.fields),
                "count": opened.count + len(added) - len(deleted),
                "deleted": gone,
                "changes": change,
                **about,
            },
        }
        builder.message = message
        builder.push_data(None)
        return builder.push_manifest(opened.reference.tag)


def _set_segment(
    builder: PackageBuilder,
    opened: LabelPackage,
    merged: int,
    added: Sequence[Label],
    deleted: Sequence[str],
    change: int,
    scratch: Path,
) -> None:
    """Put the labels added, and those of the last ``merged`` segments, into one segment of the next version."""
    old = opened.segments[len(opened.segments) - merged :]
    path = scratch / "segment.parquet"
    with opened.engine() as connection:
        register_labels(connection, added, change)
        rows = _merged_rows(connection, old, deleted)
    write_segment(rows, path)
    for segment in old:
        builder.delete(segment.logical_key)
    merged_all = Segment(old[0].first if old else change, change, rows.num_rows)
    builder.set(merged_all.logical_key, path, meta={"rows": merged_all.rows})


def _merged_rows(connection: duckdb.DuckDBPyConnection, old: Sequence[Segment], deleted: Sequence[str]) -> pa.Table:
    """Return change and document of the new labels, and of those in the old segments that still count."""
    columns = f"{CHANGE}, {DOCUMENT}"
    if not old:
        return connection.sql(f"SELECT {columns} FROM new_labels").to_arrow_table()
    return connection.sql(
        f"SELECT {columns} FROM stored WHERE {CHANGE} BETWEEN ? AND ? AND NOT list_contains(?, label_fingerprint)"
        f" UNION ALL SELECT {columns} FROM new_labels",
        params=[old[0].first, old[-1].last, list(deleted)],
    ).to_arrow_table()


def _deleted_rows(opened: LabelPackage, deleted: Sequence[str], change: int) -> pa.Table:
    """Return all that was deleted so far, and now."""
    with opened.engine() as connection:
        new = f"SELECT unnest(?::VARCHAR[]) AS label_fingerprint, {change}::BIGINT AS {CHANGE}"
        if not opened.deleted or opened.version is None:
            return connection.sql(new, params=[list(deleted)]).to_arrow_table()
        _, root = file_system_for(opened.version)
        before = f"SELECT label_fingerprint, {CHANGE} FROM read_parquet('{root}/{DELETED}')"
        return connection.sql(f"{before} UNION ALL {new}", params=[list(deleted)]).to_arrow_table()
