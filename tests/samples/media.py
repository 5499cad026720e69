"""Real videos, pictures and DICOM files, made in milliseconds."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid


def video(path: Path, *, frames: int = 10, rate: int = 5, size: str = "64x48", codec: str = "mpeg4") -> Path:
    """A test picture that moves; the number of its frames is drawn on it."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed: apt-get install ffmpeg")
    path.parent.mkdir(parents=True, exist_ok=True)
    source = f"testsrc=size={size}:rate={rate}"
    subprocess.run(
        [
            "ffmpeg",
            "-nostdin",
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            source,
            "-frames:v",
            str(frames),
            "-c:v",
            codec,
            path,
        ],
        check=True,
    )
    return path


def picture(path: Path, width: int = 64, height: int = 48, colour: str = "red") -> Path:
    """A picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), colour).save(path)
    return path


def dicom(path: Path, series: str, number: int) -> Path:
    """One slice of a series."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    made.SeriesInstanceUID, made.StudyInstanceUID, made.Modality = series, "1.2.3", "CT"
    made.InstanceNumber, made.Rows, made.Columns = number, 4, 6
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.SamplesPerPixel, made.PixelRepresentation = 15, 1, 0
    made.PhotometricInterpretation = "MONOCHROME2"
    made.PixelData = bytes([number % 256] * 48)
    made.save_as(path, enforce_file_format=True)
    return path
