"""A package with metadata and tables on `local`, published once for the session."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from fusepkg import Package, PackageBuilder
from fusepkg.opened.contexts import close_contexts
from tests.mount.places import surroundings
from tests.published import registry as registry

PICTURES = {
    "train/1.jpg": {"label": {"event": "cat"}, "speed": 10},
    "train/2.jpg": {"label": {"event": "dog"}, "speed": 20},
    "test/3.jpg": {"label": {"event": "cat"}, "speed": 30},
}

EVENTS = [{"logical_key": key, "event": meta["label"]["event"]} for key, meta in PICTURES.items()]


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with ``local/pictures:v1``: pictures with metadata, and their labels in all kinds of tables."""
    base = tmp_path_factory.mktemp("query")
    folder = base / "pictures"
    for number, key in enumerate(PICTURES):
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(b"x" * (number + 1))
    (folder / "README").write_text("# Pictures\n")
    (folder / "link").symlink_to("README")
    (folder / "none").mkdir()
    pa.parquet.write_table(pa.Table.from_pylist(EVENTS), folder / "labels.parquet")
    (folder / "tables").mkdir()
    rows = [f"{one['logical_key']},{one['event']}" for one in EVENTS]
    (folder / "tables" / "labels.csv").write_text("\n".join(["logical_key,event", *rows]))
    (folder / "tables" / "we[1]rd '.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in EVENTS))
    (folder / "twice.csv").write_text("a\n1\n")
    (folder / "twice.jsonl").write_text('{"a": 1}\n')
    with surroundings(base / "publisher", {"FUSEPKG_DATA_DIR": str(base / "data")}):
        builder = PackageBuilder("local/pictures", quiet=True).add(f"{folder}/", "")
        for key, meta in PICTURES.items():
            builder.set_meta(key, meta)
        builder.push_data_and_manifest(tag="v1")
        close_contexts()
    return base


@pytest.fixture
def package() -> Package:
    return Package("local/pictures:v1")
