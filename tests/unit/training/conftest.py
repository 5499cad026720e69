"""A package of 200 small samples on `local`, with labels as metadata, published once for the session."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusepkg import Package, PackageBuilder
from fusepkg.opened.contexts import close_contexts
from tests.mount.places import surroundings
from tests.published import registry as registry

COUNT = 200


def publish_samples(base: Path) -> None:
    """Push ``local/samples:v1``: train/000.txt to train/199.txt, of which each holds its number, and other files."""
    folder = base / "samples"
    (folder / "train").mkdir(parents=True)
    for number in range(COUNT):
        (folder / "train" / f"{number:03}.txt").write_text(str(number))
    (folder / "test").mkdir()
    (folder / "test" / "0.txt").write_text("0")
    (folder / "train" / "link").symlink_to("000.txt")
    (folder / "nothing").mkdir()
    with surroundings(base / "publisher", {"FUSEPKG_DATA_DIR": str(base / "data")}):
        builder = PackageBuilder("local/samples", quiet=True).add(f"{folder}/", "")
        for number in range(COUNT):
            builder.set_meta(f"train/{number:03}.txt", {"annotations": [number % 10]})
        builder.push_data_and_manifest(tag="v1")
        close_contexts()


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("training")
    publish_samples(base)
    return base


@pytest.fixture
def package() -> Package:
    return Package("local/samples:v1")
