"""The reference pages say what the code says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("script", ["write_commands_and_errors.py", "write_man_page.py"])
def test_the_pages_are_what_make_docs_writes(script: str) -> None:
    command = [sys.executable, ROOT / "scripts" / script, "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "man").iterdir()), ids=lambda page: page.name)
def test_man_shows_the_pages_without_complaint(page: Path) -> None:
    if (program := shutil.which("groff")) is None:
        pytest.skip("groff, which man(1) shows pages with, is not on this machine")
    done = subprocess.run([program, "-man", "-ww", "-Tutf8", page], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "fusepkg" in done.stdout
