"""A folder for both programs to publish, and the registries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fusepkg.store.directory import DirectoryStore
from fusepkg.store.s3 import S3Settings, S3Store
from tests.interop.places import NAMES, SIZES, Place

if TYPE_CHECKING:
    from pathlib import Path

    from tests.rgw import Gateway


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder; nobody writes to it."""
    folder = tmp_path_factory.mktemp("interop") / "folder"
    for name, size in SIZES.items():
        path = folder / "sizes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode().ljust(size, b"\n")[:size])
    for name in NAMES:
        path = folder / "names" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


@pytest.fixture(params=["local", pytest.param("versioned", marks=pytest.mark.s3)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A directory, and a bucket that keeps versions, as quilt3 wants it; ``bucket`` on demand: one that does not."""
    if request.param == "local":
        registry = tmp_path / "registry"
        registry.mkdir()
        return Place(f"file://{registry}", f"file://{registry}/", DirectoryStore(registry))
    gateway: Gateway = request.getfixturevalue("s3")
    versioned = request.param == "versioned"
    bucket = gateway.bucket(versioned=versioned)
    return Place(f"s3://{bucket}", bucket, S3Store(bucket, S3Settings()), versioned)
