"""Datasets of videos, pictures and DICOM series, as packages: ``DatasetClient`` for a bucket, ``Dataset`` for one."""

from __future__ import annotations

from fusepkg.datasets.client import DatasetClient
from fusepkg.datasets.dataset import AddPrivateDataResponse, Dataset, DatasetDataInfo, Deleted
from fusepkg.datasets.info import DatasetInfo, StorageLocation
from fusepkg.datasets.integrations import CloudIntegration
from fusepkg.datasets.private_data import FailedLine
from fusepkg.datasets.re_encode import ReEncodeVideoTask, ReEncodeVideoTaskResult
from fusepkg.datasets.rows import DataRow, DataType, ImageData

__all__ = [
    "AddPrivateDataResponse",
    "CloudIntegration",
    "DataRow",
    "DataType",
    "Dataset",
    "DatasetClient",
    "DatasetDataInfo",
    "DatasetInfo",
    "Deleted",
    "FailedLine",
    "ImageData",
    "ReEncodeVideoTask",
    "ReEncodeVideoTaskResult",
    "StorageLocation",
]
