"""The functions of docs/examples/transforms.py make of pictures what they say."""

from __future__ import annotations

import importlib.util
import io
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from fusepkg import Package, PackageBuilder
from fusepkg.opened.contexts import close_contexts

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "transforms.py"
LABELS = ["cat", "dog", "cat", "bird", "dog"]


@pytest.fixture
def examples() -> ModuleType:
    spec = importlib.util.spec_from_file_location("transforms_of_the_docs", EXAMPLES)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def pictures(tmp_path: Path) -> Iterator[Package]:
    builder = PackageBuilder("local/pictures", quiet=True)
    for number, label in enumerate(LABELS):
        path = tmp_path / f"{number}.jpg"
        Image.new("RGB", (600, 400), (number * 40, 0, 0)).save(path)
        boxes = [{"xyxy": [10, 20, 40 + number, 50], "label": label}] * (number % 3)
        builder.set(f"train/{number}.v1.jpg", path).set_meta(f"train/{number}.v1.jpg", {"label": label, "boxes": boxes})
    yield builder.push_data_and_manifest(tag="v1")
    close_contexts()


def test_smaller_pictures_and_crops(pictures: Package, examples: ModuleType) -> None:
    small = pictures.map(examples.smaller, out="local/small:v1", executor="threads").package
    assert {Image.open(io.BytesIO(entry.get_bytes())).size for entry in small} == {(256, 171)}
    assert small["train/3.v1.jpg"].meta["label"] == "bird"
    cut = pictures.map(examples.crops, out="local/crops:v1", executor="threads").package
    assert {entry.logical_key: entry.meta["label"] for entry in cut} == {
        "train/1.v1-0.jpg": "dog",
        "train/2.v1-0.jpg": "cat",
        "train/2.v1-1.jpg": "cat",
        "train/4.v1-0.jpg": "dog",
    }
    assert Image.open(io.BytesIO(cut.get("train/2.v1-1.jpg"))).size == (32, 30)


def test_shards(pictures: Package, examples: ModuleType) -> None:
    tars = pictures.map(examples.tar_shard, out="local/tars:v1", executor="threads", by=3).package
    assert {entry.logical_key: entry.meta for entry in tars} == {
        "train/0.v1.tar": {"samples": 3},
        "train/3.v1.tar": {"samples": 2},
    }
    with tarfile.open(fileobj=io.BytesIO(tars.get("train/3.v1.tar"))) as tar:
        assert tar.getnames() == [f"train/{n}_v1.{ending}" for n in (3, 4) for ending in ("jpg", "cls")]
        member = tar.extractfile("train/4_v1.cls")
        assert member is not None
        assert member.read() == b"dog"
    records = pictures.map(examples.tfrecord_shard, out="local/records:v1", executor="threads", by=3).package
    data, found = records.get("train/0.v1.tfrecord"), 0
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        assert pictures.get(f"train/{found}.v1.jpg") in data[12 : 12 + length]
        data, found = data[12 + length + 4 :], found + 1
    assert found == 3
