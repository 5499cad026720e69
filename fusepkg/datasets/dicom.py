"""What a DICOM file is: which series it belongs to, and where in that. No pixel is read."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg.datasets.media import Media
from fusepkg.errors import DataUnfit, MissingExtra

try:
    import pydicom
    from pydicom.errors import InvalidDicomError
except ImportError as exc:
    raise MissingExtra("DICOM files need pydicom", hint='pip install "fusepkg[datasets]"') from exc

if TYPE_CHECKING:
    from pathlib import Path

FILE_TYPE = "application/dicom"

_TAGS = ["SeriesInstanceUID", "StudyInstanceUID", "Modality", "InstanceNumber", "Rows", "Columns", "NumberOfFrames"]


@dataclass(frozen=True, slots=True)
class Instance:
    """One file of a series. ``number`` is its place in the series, as the scanner counted; 0 if it did not."""

    media: Media
    series: str
    study: str
    modality: str
    number: int


def read_dicom(path: Path, shown: str) -> Instance:
    """Return what a DICOM file is. Raises DataUnfit."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scanners break rules of the standard that do not matter here
            found = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
            series, number = str(found.get("SeriesInstanceUID", "")), int(found.get("InstanceNumber") or 0)
            size = int(found.get("Columns") or 0), int(found.get("Rows") or 0)
            frames = int(found.get("NumberOfFrames") or 1)
            study, modality = str(found.get("StudyInstanceUID", "")), str(found.get("Modality", ""))
    except InvalidDicomError as exc:
        raise DataUnfit(f"{shown} is not a DICOM file") from exc
    except Exception as exc:
        # The library raises whatever a damaged file made it stumble over.
        raise DataUnfit(f"{shown} cannot be read as a DICOM file: {exc}") from exc
    if not series:
        raise DataUnfit(f"{shown} does not say which series it belongs to")
    return Instance(Media(FILE_TYPE, *size, frames=frames), series, study, modality, number)
