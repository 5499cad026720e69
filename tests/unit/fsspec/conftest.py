"""A package on `local`, published once for the session, and the file system over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusepkg.fsspec.filesystem import PackageFileSystem
from tests import trees
from tests.command import run_fusepkg
from tests.mount.places import surroundings
from tests.published import registry as registry

LABELS = "name,label\n1.jpg,cat\n2.jpg,dog\n"


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with ``local/small:v1``, and the folder ``small`` it was made of."""
    base = tmp_path_factory.mktemp("fsspec")
    folder = trees.small(base / "small")
    (folder / "tables").mkdir()
    (folder / "tables" / "labels.csv").write_text(LABELS)
    with surroundings(base / "publisher", {"FUSEPKG_DATA_DIR": str(base / "data")}):
        run_fusepkg("push", folder, "local/small:v1")
        run_fusepkg("push", folder, "local/name/space:v1")
    return base


@pytest.fixture
def folder(published: Path) -> Path:
    """What ``local/small:v1`` was made of."""
    return published / "small"


@pytest.fixture
def fs() -> PackageFileSystem:
    fs = PackageFileSystem()
    fs.invalidate_cache()
    return fs
