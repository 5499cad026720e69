"""`local` as the package fixture of a folder of tests has filled it. Import ``registry`` in its ``conftest.py``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fusepkg.fsspec.filesystem import PackageFileSystem
from fusepkg.fsspec.versions import forget_versions
from fusepkg.opened.contexts import close_contexts


@pytest.fixture(autouse=True)
def registry(published: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have ``local`` be the directory ``data`` of ``published``, and close after each test what it has opened."""
    monkeypatch.setenv("FUSEPKG_DATA_DIR", str(published / "data"))
    yield
    PackageFileSystem.clear_instance_cache()
    forget_versions()
    close_contexts()
