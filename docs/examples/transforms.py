"""Functions for ``Package.map``: pictures smaller, crops of them, and shards for WebDataset and TensorFlow.

    from fusepkg import Package
    from transforms import crops, smaller, tar_shard, tfrecord_shard

    pictures = Package("bucket/pictures:v1")
    pictures.map(smaller, out="bucket/small:v1", executor="processes", names="*.jpg")
    pictures.map(crops, out="bucket/crops:v1", executor="processes", names="*.jpg")
    pictures.map(tar_shard, out="bucket/tars:v1", executor="processes", names="*.jpg", by=1000)
    pictures.map(tfrecord_shard, out="bucket/records:v1", executor="processes", names="*.jpg", by=1000)

Each picture's metadata have a ``label``, and ``boxes`` for crops: ``[{"xyxy": [0, 0, 10, 10], "label": "cat"}, ...]``.
"""

from __future__ import annotations

import io
import struct
import tarfile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from awscrt.checksums import crc32c
from PIL import Image

if TYPE_CHECKING:
    from fusepkg.api.entry import PackageEntry

LONGEST = 256
"""Pixels of the longer side of a small picture."""

Made = dict[str, tuple[bytes, dict[str, object]]]
"""What a function makes of entries: bytes and metadata, by logical key."""


def smaller(entry: PackageEntry) -> bytes:
    """Return the picture with its longer side at ``LONGEST``; name and metadata stay."""
    with Image.open(io.BytesIO(entry.get_bytes())) as picture:
        picture.thumbnail((LONGEST, LONGEST))
        return _as_jpeg(picture)


def crops(entry: PackageEntry) -> Made:
    """Return each box of a picture as a picture of its own, with the box's label."""
    found: Made = {}
    stem = entry.logical_key.rpartition(".")[0]
    with Image.open(io.BytesIO(entry.get_bytes())) as picture:
        for number, box in enumerate(entry.meta.get("boxes", [])):
            found[f"{stem}-{number}.jpg"] = (_as_jpeg(picture.crop(box["xyxy"])), {"label": box["label"]})
    return found


def tar_shard(entries: list[PackageEntry]) -> Made:
    """Return a tar as WebDataset reads it: each picture, and beside it its label in a file ``.cls``."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for entry in entries:
            stem = entry.logical_key.rpartition(".")[0].replace(".", "_")  # a sample's name ends at its first point
            for name, data in ((f"{stem}.jpg", entry.get_bytes()), (f"{stem}.cls", entry.meta["label"].encode())):
                member = tarfile.TarInfo(name)  # without a time, so that a repeat makes the same bytes
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return {_shard_name(entries, "tar"): (written.getvalue(), {"samples": len(entries)})}


def tfrecord_shard(entries: list[PackageEntry]) -> Made:
    """Return a TFRecord file of ``tf.train.Example`` with the features image, label and key; without TensorFlow."""
    records = []
    for entry in entries:
        features = {
            "image": entry.get_bytes(),
            "label": entry.meta["label"].encode(),
            "key": entry.logical_key.encode(),
        }
        records.append(_record(_example(features)))
    return {_shard_name(entries, "tfrecord"): (b"".join(records), {"samples": len(entries)})}


def _as_jpeg(picture: Image.Image) -> bytes:
    written = io.BytesIO()
    picture.convert("RGB").save(written, "JPEG", quality=90)
    return written.getvalue()


def _shard_name(entries: list[PackageEntry], ending: str) -> str:
    """Name a shard by its first entry, so that other entries before it do not rename it."""
    first = PurePosixPath(entries[0].logical_key)
    return str(first.with_suffix(f".{ending}"))


def _record(data: bytes) -> bytes:
    """Frame a record: its length, a checksum of that, itself, a checksum of that."""
    length = struct.pack("<Q", len(data))
    return length + _checksum(length) + data + _checksum(data)


def _checksum(data: bytes) -> bytes:
    value = crc32c(data)
    return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _example(features: dict[str, bytes]) -> bytes:
    """Encode a ``tf.train.Example``: a message of a message with a map from names to lists of bytes."""
    pairs = (_field(1, name.encode()) + _field(2, _field(1, _field(1, data))) for name, data in features.items())
    return _field(1, b"".join(_field(1, pair) for pair in pairs))


def _field(number: int, data: bytes) -> bytes:
    """Encode a field of protobuf that has a length."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    some = bytearray()
    while value > 0x7F:
        some.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*some, value])
