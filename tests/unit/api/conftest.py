"""One package on `local`, published once for the session, and each test's own view of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fusepkg import Package
from tests import trees
from tests.command import run_fusepkg
from tests.mount.places import surroundings
from tests.published import registry as registry

ANNOTATIONS = {"images": [{"path": "1.jpg", "image_id": 1}], "annotations": [{"image_id": 1, "label": "cat"}]}


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with ``local/small:v1`` and ``:v2``; the folders lie beside it."""
    base = tmp_path_factory.mktemp("api")
    for name in ("v1", "v2"):
        folder = trees.small(base / name)
        (folder / "annotations").mkdir()
        (folder / "annotations" / "train.json").write_text(json.dumps(ANNOTATIONS))
    (base / "v2" / "README.md").write_text("# A later dataset\n")
    (base / "v2" / "same.bin").unlink()
    (base / "v2" / "new.txt").write_text("new\n")
    with surroundings(base / "publisher", {"FUSEPKG_DATA_DIR": str(base / "data")}):
        for name in ("v1", "v2"):
            run_fusepkg(
                "push", base / name, f"local/small:{name}", "--meta", '{"made": "for tests"}', "-m", f"As {name}"
            )
    return base


@pytest.fixture
def folder(published: Path) -> Path:
    """What ``local/small:v1`` was made of."""
    return published / "v1"


@pytest.fixture
def package() -> Package:
    return Package("local/small:v1")
