"""A small data set for detection on `local`: pictures with labels, tables, JSON; published once for the module."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from fusepkg import Package, PackageBuilder
from fusepkg.opened.contexts import close_contexts
from tests.mount.places import surroundings
from tests.published import registry as registry


def picture(width: int, height: int, mode: str = "RGB", shade: int = 0, kind: str = "JPEG") -> bytes:
    written = io.BytesIO()
    Image.new(mode, (width, height), shade).save(written, kind)
    return written.getvalue()


def publish_shapes(base: Path) -> None:
    """Push ``local/shapes:v1`` (fits a task) and ``:v2`` (does not)."""
    folder = base / "shapes"
    number = 0
    for split, count in (("train", 4), ("val", 2)):
        for name in ("circle", "square"):
            images, labels = folder / split / "images" / name, folder / split / "labels" / name
            images.mkdir(parents=True)
            labels.mkdir(parents=True)
            for _ in range(count):
                number += 1
                (images / f"{number:03}.jpg").write_bytes(picture(64, 48, shade=number))
                (labels / f"{number:03}.json").write_text(json.dumps({"label": name, "boxes": [[0, 0, number, 9]]}))
    ids = list(range(1, number + 1))
    parquet.write_table(pa.table({"id": ids, "label": ["circle"] * 6 + ["square"] * 6}), folder / "index.parquet")
    (folder / "scores.csv").write_text("id,score,day\n1,0.5,2020-01-19\n2,7,2020-01-20\n")
    (folder / "lines.jsonl").write_text('{"id": 1}\n{"id": 2}\n')
    with surroundings(base / "publisher", {"FUSEPKG_DATA_DIR": str(base / "data")}):
        builder = PackageBuilder("local/shapes", quiet=True).add(f"{folder}/", "")
        for key in [key for key in builder.keys() if key.endswith(".jpg")]:  # noqa: SIM118 - it is no dictionary
            builder.set_meta(key, {"camera": f"c{int(key[-7:-4]) % 3}", "car": key.split("/")[0]})
        builder.meta = {"source": "tests"}
        builder.push_data_and_manifest(tag="v1")

        (bad := base / "bad").mkdir()
        (bad / "tall.jpg").write_bytes(picture(10, 900, "L"))
        (bad / "noise.jpg").write_bytes(b"no picture at all")
        (bad / "label.json").write_text('{"label": 7}')
        (bad / "broken.json").write_text("{")
        builder.set("train/images/circle/900.jpg", bad / "tall.jpg")
        builder.set("train/images/circle/901.jpg", bad / "noise.jpg")
        builder.set("train/labels/circle/901.json", bad / "broken.json")
        builder.set("train/labels/circle/001.json", bad / "label.json")
        builder.set("val/images/circle/902.jpg", folder / "train/images/circle/001.jpg")
        builder.set("val/labels/circle/902.json", folder / "train/labels/circle/001.json")
        builder.push_data_and_manifest(tag="v2")
        close_contexts()


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("fit")
    publish_shapes(base)
    return base


@pytest.fixture
def good() -> Package:
    return Package("local/shapes:v1")


@pytest.fixture
def bad() -> Package:
    return Package("local/shapes:v2")
