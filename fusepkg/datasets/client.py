"""The datasets of one bucket: create, list, open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusepkg.datasets.changes import make_dataset
from fusepkg.datasets.dataset import Dataset
from fusepkg.datasets.info import (
    DatasetInfo,
    StorageLocation,
    list_datasets,
    location_of,
    name_for,
    now,
    select_datasets,
)
from fusepkg.datasets.integrations import get_cloud_integrations
from fusepkg.errors import DataUnfit, TagConflict, UsageError
from fusepkg.model.reference import parse_bucket, parse_reference
from fusepkg.opened.contexts import current_context
from fusepkg.registry.tags import current_publisher

if TYPE_CHECKING:
    from datetime import datetime

    from fusepkg.datasets.integrations import CloudIntegration


class DatasetClient:
    """The datasets of a bucket; ``local`` is the embedded one. Raises InvalidReference, MissingExtra."""

    def __init__(self, bucket: str) -> None:
        self._bucket = parse_bucket(bucket)
        self._context = current_context()

    def create_dataset(
        self,
        dataset_title: str,
        dataset_type: StorageLocation | None = None,
        dataset_description: str = "",
        *,
        name: str | None = None,
    ) -> DatasetInfo:
        """Create a dataset without data. Its package gets a name made from the title, or ``name``.

        ``dataset_type`` may be left out: the bucket says where data lie. Raises DataUnfit where there is such a
        dataset, UsageError for a type that the bucket is not of.
        """
        location = location_of(self._bucket)
        if dataset_type is not None and dataset_type is not location:
            raise UsageError(
                f"{self._bucket} is of the type {location.name}, not {dataset_type.name}", hint="Leave out the type"
            )
        separator = "//" if self._bucket.scheme == "file" else "/"
        reference = parse_reference(f"{self._bucket}{separator}{name or name_for(dataset_title)}")
        moment = now()
        info = DatasetInfo(
            reference.package,
            current_publisher(),
            dataset_title,
            dataset_description,
            location,
            moment,
            moment,
        )
        try:
            make_dataset(reference, info, f"Dataset {dataset_title}")
        except TagConflict as exc:
            raise DataUnfit(
                f"there is a package {reference.package} already", hint="Choose another with name=, or --name"
            ) from exc
        return info

    def get_datasets(
        self,
        title_eq: str | None = None,
        title_like: str | None = None,
        desc_eq: str | None = None,
        desc_like: str | None = None,
        created_before: datetime | str | None = None,
        created_after: datetime | str | None = None,
        edited_before: datetime | str | None = None,
        edited_after: datetime | str | None = None,
    ) -> list[DatasetInfo]:
        """The datasets of the bucket that fit all that is said; ``_like`` as SQL's LIKE, times are UTC unless said.

        Raises UsageError, BucketNotFound, RemoteError.
        """
        return select_datasets(
            list_datasets(self._context.store(self._bucket), self._bucket),
            title_eq=title_eq,
            title_like=title_like,
            desc_eq=desc_eq,
            desc_like=desc_like,
            created_before=created_before,
            created_after=created_after,
            edited_before=edited_before,
            edited_after=edited_after,
        )

    def get_dataset(self, dataset_hash: str) -> Dataset:
        """One dataset by what ``get_datasets`` names it: ``bucket/name``. Raises InvalidReference."""
        return Dataset(dataset_hash, context=self._context)

    def get_cloud_integrations(self) -> list[CloudIntegration]:
        """The credentials that data can be added with: AWS profiles."""
        return get_cloud_integrations(self._context)
