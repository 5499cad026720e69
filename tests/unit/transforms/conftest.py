"""A package of small files on `local`, published once for the module."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusepkg import Package, PackageBuilder
from fusepkg.opened.contexts import close_contexts
from tests.mount.places import surroundings
from tests.unit.transforms.functions import COUNT


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("transforms")
    (folder := base / "in").mkdir()
    for number in range(COUNT):
        (folder / f"{number:03}.txt").write_text(f"{number}\n")
    with surroundings(base / "publisher", {"FUSEPKG_DATA_DIR": str(base / "data")}):
        builder = PackageBuilder("local/in", quiet=True).add(f"{folder}/", "in/")
        builder.set_meta("in/001.txt", {"label": "one"})
        builder.push_data_and_manifest(tag="v1")
        close_contexts()
    return base


@pytest.fixture(autouse=True)
def _registry(published: Path, home: Path) -> Iterator[None]:
    """Each test has a copy: what one has done would be there already for the next."""
    shutil.copytree(published / "data", home / "fusepkg-data", dirs_exist_ok=True)
    yield
    close_contexts()


@pytest.fixture
def package() -> Package:
    return Package("local/in:v1")
