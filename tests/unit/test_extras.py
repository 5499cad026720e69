"""What is missing is said in one message, with the command that installs it."""

from __future__ import annotations

import runpy
import sys
import tomllib
from pathlib import Path

import pytest

from fusepkg.errors import MissingExtra

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.mark.parametrize(
    ("library", "module", "extra"),
    [
        ("fsspec.spec", "fusepkg/fsspec/filesystem.py", "fsspec"),
        ("duckdb", "fusepkg/query/engine.py", "query"),
        ("pyarrow", "fusepkg/query/engine.py", "query"),
        ("PIL", "fusepkg/datasets/media.py", "datasets"),
        ("pydicom", "fusepkg/datasets/dicom.py", "datasets"),
        ("torch", "fusepkg/torch/__init__.py", "torch"),
        ("yaml", "fusepkg/schemas/libraries.py", "check"),
        ("re2", "fusepkg/schemas/libraries.py", "check"),
        ("PIL", "fusepkg/fit/pictures.py", "check"),
        ("pyarrow", "fusepkg/fit/tables.py", "check"),
        ("av", "fusepkg/pool/libraries.py", "pool"),
        ("PIL", "fusepkg/pool/libraries.py", "pool"),
        ("matplotlib", "fusepkg/pool/libraries.py", "pool"),
    ],
)
def test_a_missing_library(library: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=rf'pip install "fusepkg\[{extra}\]"'):
        runpy.run_path(str(ROOT / module))


def test_all_is_every_extra_and_each_has_its_row() -> None:
    (everything,) = EXTRAS["all"]
    assert everything == f"fusepkg[{','.join(sorted(extra for extra in EXTRAS if extra != 'all'))}]"
    page = (ROOT / "docs" / "reference" / "extras.md").read_text()
    assert [extra for extra in EXTRAS if extra != "all" and f"| `{extra}` |" not in page] == []
