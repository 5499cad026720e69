from __future__ import annotations

from pathlib import Path

import pytest

from fusepkg.store.directory import DirectoryStore
from fusepkg.store.memory import MemoryStore
from fusepkg.store.protocol import ObjectStore


@pytest.fixture(params=["memory", "versioned", "directory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param != "directory":
        return MemoryStore("bucket", versioned=request.param == "versioned")
    (tmp_path / "registry").mkdir()
    return DirectoryStore(tmp_path / "registry")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder
