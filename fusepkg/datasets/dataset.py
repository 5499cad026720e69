"""One dataset: its rows, and each way to change them. Every change is a version of the package, with a message."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusepkg.api.builder import PackageBuilder
from fusepkg.api.package import Package
from fusepkg.datasets import changes, re_encode
from fusepkg.datasets.candidates import Candidate, dicom_series, image_groups, local_file
from fusepkg.datasets.info import info_of, location_of
from fusepkg.datasets.integrations import context_of, get_cloud_integrations
from fusepkg.datasets.policy import access_policy
from fusepkg.datasets.private_data import FailedLine, read_private_data
from fusepkg.datasets.private_rows import read_lines
from fusepkg.datasets.rows import DataRow, DataType, find_row, read_rows, select_rows
from fusepkg.errors import DataUnfit, UsageError
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.model.reference import parse_reference
from fusepkg.opened.contexts import current_context
from fusepkg.opened.version import open_version
from fusepkg.publish.conflicts import repeat_conflicts
from fusepkg.registry.tags import tag_history
from fusepkg.work.progress import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from fusepkg.app.context import Context
    from fusepkg.datasets.info import DatasetInfo, StorageLocation
    from fusepkg.datasets.integrations import CloudIntegration
    from fusepkg.datasets.media import Media
    from fusepkg.datasets.re_encode import ReEncodeVideoTask
    from fusepkg.work.progress import ProgressCallback

log = logging.getLogger(__name__)

SIGNED_URL_S = 3600
"""How long a signed URL can be used."""

_NAMED = 5


@dataclass(frozen=True, slots=True)
class DatasetDataInfo:
    """A row that was added."""

    data_hash: str
    title: str


@dataclass(frozen=True, slots=True)
class AddPrivateDataResponse:
    """What came of private data: rows added, rows that were there already, lines that failed, each with its reason."""

    dataset_data_list: list[DatasetDataInfo] = field(default_factory=list)
    already_there: list[DatasetDataInfo] = field(default_factory=list)
    failed: list[FailedLine] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Deleted:
    """Hashes of rows that were deleted, and those that the dataset has no row of."""

    deleted: list[str]
    ignored: list[str]


class Dataset:
    """A dataset by the name of its package, ``bucket/name``, or with a tag; with ``@hash`` an older version, to read.

    Nothing is asked of the bucket yet. Raises InvalidReference, MissingExtra.
    """

    def __init__(self, name: str, *, context: Context | None = None) -> None:
        self._reference = parse_reference(name)
        self._context = context or current_context()

    # --- what it is ------------------------------------------------------------------------------------------

    @property
    def dataset_hash(self) -> str:
        """What names it: ``bucket/name``."""
        return self._reference.package

    @property
    def reference(self) -> str:
        """The package and its tag, as all commands take them."""
        return str(self._reference)

    @property
    def package(self) -> Package:
        """The newest version: to mount, install, query. Raises PackageError, RemoteError."""
        return Package.of_version(open_version(self._context, self._reference))

    @property
    def info(self) -> DatasetInfo:
        """Title, description and times. Raises DataUnfit for a package that is no dataset."""
        return self._info(self.package)

    @property
    def title(self) -> str:
        """The title it was created with."""
        return self.info.title

    @property
    def description(self) -> str:
        """The description it was created with."""
        return self.info.description

    @property
    def storage_location(self) -> StorageLocation:
        """Where its data lie."""
        return location_of(self._reference.bucket)

    @property
    def data_rows(self) -> list[DataRow]:
        """All rows. Raises DataUnfit, PackageError, RemoteError."""
        return read_rows(self._opened())

    def list_data_rows(
        self,
        *,
        title_eq: str | None = None,
        title_like: str | None = None,
        created_before: datetime | str | None = None,
        created_after: datetime | str | None = None,
        data_types: Collection[DataType | str] | None = None,
        data_hashes: Collection[str] | None = None,
    ) -> list[DataRow]:
        """The rows that fit all that is said; ``title_like`` as SQL's LIKE. Raises UsageError, and as ``data_rows``."""
        return select_rows(
            self.data_rows,
            title_eq=title_eq,
            title_like=title_like,
            created_before=created_before,
            created_after=created_after,
            data_types=data_types,
            data_hashes=data_hashes,
        )

    def get_data_row(self, data_hash: str) -> DataRow:
        """One row by its hash. Raises DataUnfit."""
        return find_row(self._opened(), data_hash, self.reference)

    def signed_url(self, data_hash: str, *, expires_s: int = SIGNED_URL_S) -> str:
        """A URL at which anybody can read a row's file for so long. Raises DataUnfit for a row of several files."""
        row = self.get_data_row(data_hash)
        if row.file_link is None:
            raise DataUnfit(f"the row {row.title} has {len(row.images_data or ())} files, not one")
        return self._signed(row.file_link, expires_s)

    def get_cloud_integrations(self) -> list[CloudIntegration]:
        """The credentials that data can be added with: AWS profiles."""
        return get_cloud_integrations(self._context)

    def access_policy(self, *, write: bool = False, principals: Sequence[str] = ()) -> dict[str, Any]:
        """A bucket policy by which these users of AWS (ARNs) may read this dataset, or change it; everybody if none.

        Raises UsageError if it lies in no S3, and for one that everybody could change.
        """
        return access_policy(self._reference, write=write, principals=principals)

    # --- adding data -----------------------------------------------------------------------------------------

    def upload_video(
        self,
        file_path: str | os.PathLike[str],
        title: str | None = None,
        *,
        client_metadata: Mapping[str, Any] | None = None,
        progress: ProgressCallback = no_progress,
    ) -> DataRow:
        """Add a video of this machine; one that is there already, by title and bytes, is that row.

        Raises DataUnfit, TagConflict, RemoteError.
        """
        return self._upload(DataType.VIDEO, file_path, title, client_metadata, progress)

    def upload_image(
        self,
        file_path: str | os.PathLike[str],
        title: str | None = None,
        *,
        client_metadata: Mapping[str, Any] | None = None,
        progress: ProgressCallback = no_progress,
    ) -> DataRow:
        """Add a single picture of this machine. Raises as ``upload_video``."""
        return self._upload(DataType.IMAGE, file_path, title, client_metadata, progress)

    def create_image_group(
        self,
        file_paths: Iterable[str | os.PathLike[str]],
        title: str | None = None,
        *,
        create_video: bool = True,
        client_metadata: Mapping[str, Any] | None = None,
        progress: ProgressCallback = no_progress,
    ) -> list[DataRow]:
        """Add pictures of this machine as groups, one for each resolution, in the order given.

        With ``create_video`` False all are one group. Raises as ``upload_video``.
        """
        files = _read_all(file_paths, DataType.IMAGE)
        found = image_groups(
            files, title or Path(files[0].title).stem, "the call", split=create_video, client_metadata=client_metadata
        )
        return self._add(found, f"Image group {found[0].title}", progress)

    def create_dicom_series(
        self,
        file_paths: Iterable[str | os.PathLike[str]],
        title: str | None = None,
        *,
        client_metadata: Mapping[str, Any] | None = None,
        progress: ProgressCallback = no_progress,
    ) -> list[DataRow]:
        """Add DICOM files of this machine as the series that they belong to. Raises as ``upload_video``."""
        files = _read_all(file_paths, DataType.DICOM)
        found = dicom_series(files, title or Path(files[0].title).stem, "the call", client_metadata=client_metadata)
        return self._add(found, f"DICOM series {found[0].title}", progress)

    def add_private_data_to_dataset(
        self,
        integration_id: str | None,
        private_files: str | os.PathLike[str] | Mapping[str, Any],
        ignore_errors: bool = False,
        *,
        copy: bool = False,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> AddPrivateDataResponse:
        """Add objects that lie in buckets, as the private-cloud JSON (a file, or read already) names them.

        They stay where they are, or are copied into the dataset's bucket with ``copy``. A call that is repeated adds
        nothing twice, and reads no object again. Where lines fail nothing is added, and the error names each; with
        ``ignore_errors`` the others are, and the answer has the failed ones. ``integration_id`` is an AWS profile.

        Raises DataUnfit, UsageError, CredentialsMissing, TagConflict, RemoteError.
        """
        asked = read_private_data(private_files)
        context = context_of(integration_id, self._context)
        there = Dataset(self.reference, context=context)
        read = read_lines(context, asked, there.data_rows, endpoint_of(context), progress)
        if read.failed and not ignore_errors:
            named = "; ".join(f"{one.where}: {one.reason}" for one in read.failed[:_NAMED])
            more = len(read.failed) - _NAMED
            raise DataUnfit(
                f"{len(read.failed)} of the data cannot be added: {named}" + (f"; and {more} more" if more > 0 else ""),
                hint="Nothing was added. Correct these, or add the others with ignore_errors (--ignore-errors)",
            )
        message = f"{len(read.candidates)} rows from buckets"
        added, known = there._publish(read.candidates, message, copy=copy)
        known += [row for row in read.there if row not in known]
        return AddPrivateDataResponse(_named(added), _named(known), read.failed)

    def _upload(
        self,
        kind: DataType,
        file_path: str | os.PathLike[str],
        title: str | None,
        client_metadata: Mapping[str, Any] | None,
        progress: ProgressCallback,
    ) -> DataRow:
        file = local_file(Path(file_path), kind)
        candidate = Candidate(kind, title or file.title, [file], str(file_path), client_metadata)
        return self._add([candidate], f"{kind.capitalize()} {candidate.title}", progress)[0]

    def _add(self, candidates: Sequence[Candidate], message: str, progress: ProgressCallback) -> list[DataRow]:
        added, known = self._publish(candidates, message, progress=progress)
        return added + known

    def _publish(
        self,
        candidates: Sequence[Candidate],
        message: str,
        *,
        copy: bool = False,
        progress: ProgressCallback = no_progress,
    ) -> tuple[list[DataRow], list[DataRow]]:
        """Publish a version with these rows; return those added, and those that were there."""

        def attempt() -> tuple[list[DataRow], list[DataRow]]:
            package = self._to_change()
            there = {row.uid: row for row in read_rows(package)}
            builder = PackageBuilder.from_package(package, quiet=True)
            added, known = changes.add_rows(builder, there, candidates)
            if not added:
                return [], [there[uid] for uid in known]
            new = changes.publish(builder, self._reference.tag, message, copy=copy, progress=progress)
            rows = {row.uid: row for row in read_rows(new)}
            return [rows[uid] for uid in added], [rows[uid] for uid in known]

        return repeat_conflicts(attempt)

    # --- changing data ---------------------------------------------------------------------------------------

    def update_data_row(
        self, data_hash: str, *, title: str | None = None, client_metadata: Mapping[str, Any] | None = None
    ) -> DataRow:
        """Give a row another title or other metadata of your own. Raises DataUnfit, UsageError, TagConflict."""

        def attempt() -> DataRow:
            package = self._to_change()
            row = find_row(package, data_hash, self.reference)
            builder = PackageBuilder.from_package(package, quiet=True)
            changes.update_row(builder, row, title=title, client_metadata=client_metadata)
            new = changes.publish(builder, self._reference.tag, f"Update of {title or row.title}")
            return next(row for row in read_rows(new) if row.uid == data_hash)

        return repeat_conflicts(attempt)

    def delete_data(self, data_hashes: str | Collection[str]) -> Deleted:
        """Take rows out of the dataset. Hashes of other datasets' rows are ignored, and named in the answer.

        The objects stay in the bucket, for older versions name them. Raises TagConflict, RemoteError.
        """
        wanted = dict.fromkeys([data_hashes] if isinstance(data_hashes, str) else data_hashes)

        def attempt() -> Deleted:
            package = self._to_change()
            rows = {row.uid: row for row in read_rows(package)}
            found = [uid for uid in wanted if uid in rows]
            if found:
                builder = PackageBuilder.from_package(package, quiet=True)
                changes.delete_rows(builder, [rows[uid] for uid in found])
                changes.publish(builder, self._reference.tag, f"{len(found)} rows deleted")
            return Deleted(found, [uid for uid in wanted if uid not in rows])

        deleted = repeat_conflicts(attempt)
        _warn_of_ignored(self.reference, deleted.ignored)
        return deleted

    # --- re-encoding -----------------------------------------------------------------------------------------

    def re_encode_data(self, data_hashes: Collection[str], *, start: bool = True) -> int:
        """Submit a task that encodes videos again, with a constant frame rate, and return its number.

        A process of this machine begins at once, and lives on when this one ends; with ``start`` False whoever runs
        ``fusepkg tasks run`` does it. Hashes that are no videos of this dataset are ignored, with a warning.

        Raises DataUnfit where none is, RemoteError.
        """
        videos = {row.uid for row in self.list_data_rows(data_types=[DataType.VIDEO])}
        wanted = list(dict.fromkeys(data_hashes))
        _warn_of_ignored(self.reference, [uid for uid in wanted if uid not in videos])
        return re_encode.submit_task(self._context, self._reference, [uid for uid in wanted if uid in videos], start)

    def re_encode_data_status(self, task_id: int) -> ReEncodeVideoTask:
        """How a task stands: SUBMITTED, DONE with its results, or ERROR with the reason. Raises TaskNotFound."""
        return re_encode.task_status(
            self._context, self._reference, task_id, lambda link: self._signed(link, SIGNED_URL_S)
        )

    def put_video(
        self, data_hash: str, path: Path, media: Media, more: Mapping[str, Any], *, message: str | None = None
    ) -> None:
        """Give a row another video of this machine; ``more`` goes into its metadata. Raises DataUnfit, TagConflict."""

        def attempt() -> None:
            package = self._to_change()
            row = find_row(package, data_hash, self.reference)
            builder = PackageBuilder.from_package(package, quiet=True)
            changes.replace_video(builder, row, path, media, more)
            changes.publish(builder, self._reference.tag, message)

        repeat_conflicts(attempt)

    # --- inside ----------------------------------------------------------------------------------------------

    def _opened(self) -> Package:
        package = self.package
        self._info(package)
        return package

    def _to_change(self) -> Package:
        if self._reference.top_hash is not None:
            raise UsageError(f"{self._reference} is a version, which never changes", hint="Leave out the hash")
        return self._opened()

    def _info(self, package: Package) -> DatasetInfo:
        moves = tag_history(
            self._context.store(self._reference.bucket), self._reference.name, self._reference.tag, limit=1
        )
        edited = datetime.fromisoformat(moves[0].time if moves else "1970-01-01T00:00:00Z")
        info = info_of(replace(self._reference, top_hash=None), package.meta, edited)
        if info is None:
            raise DataUnfit(f"{self.reference} is no dataset", hint="Create one: fusepkg datasets create-dataset")
        return info

    def _signed(self, link: str, expires_s: int) -> str:
        place = parse_physical_key(link)
        store, key = self._context.stores.for_key(place)
        return store.sign_url(key, version=place.version, expires_s=expires_s)


def endpoint_of(context: Context) -> str | None:
    """Return the endpoint of S3 that is not AWS's own, as URLs of objects begin."""
    named = (
        context.settings.s3.endpoint_url,
        os.environ.get("AWS_ENDPOINT_URL_S3"),
        os.environ.get("AWS_ENDPOINT_URL"),
    )
    return next((endpoint for endpoint in named if endpoint), None)


def _read_all(file_paths: Iterable[str | os.PathLike[str]], kind: DataType) -> list[Any]:
    """Read files, and name all that will not do."""
    files, wrong = [], []
    for path in file_paths:
        try:
            files.append(local_file(Path(path), kind))
        except DataUnfit as exc:
            wrong.append(exc.message)
    if wrong:
        raise DataUnfit("; ".join(wrong[:_NAMED]), hint="Leave these out; nothing was added")
    if not files:
        raise DataUnfit("no file was named", hint="Name the files in their order")
    return files


def _named(rows: Iterable[DataRow]) -> list[DatasetDataInfo]:
    return [DatasetDataInfo(row.uid, row.title) for row in rows]


def _warn_of_ignored(reference: str, hashes: Sequence[str]) -> None:
    if hashes:
        some = ", ".join(hashes[:_NAMED]) + (", ..." if len(hashes) > _NAMED else "")
        log.warning("%s has no such data, which is ignored: %s", reference, some)
