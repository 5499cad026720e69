"""The real DVC makes repositories, and what it brings of them is what fusepkg reads."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from fusepkg import Package
from tests.dvc_repositories import EXPECTED, make, unpack

DVC = shutil.which("dvc", path=str(Path(sys.executable).parent)) or shutil.which("dvc")
pytestmark = pytest.mark.skipif(DVC is None, reason="DVC is not in this environment: make test-heavy")


def test_repositories_of_today_are_read_as_dvc_reads_them(tmp_path: Path) -> None:
    assert DVC is not None
    made, kept = tmp_path / "made", tmp_path / "kept"
    made.mkdir()
    kept.mkdir()
    make(made, Path(DVC))
    expected = json.loads((made / EXPECTED).read_text())
    golden = unpack(kept)
    assert expected == {what: files for what, files in golden.items() if not what.startswith("old@")}
    for what, files in expected.items():
        if not what.startswith("several@"):
            package = Package(f"dvc+{made}/{what}")
            assert {str(entry): package.get(str(entry)).decode("latin-1") for entry in package} == files
