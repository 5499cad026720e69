"""What the command line ends with, whatever happens in a command."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fusepkg_cache.errors import CacheFull

from fusepkg.cli import main as entry
from fusepkg.errors import AccessDenied

if TYPE_CHECKING:
    from tests.command import Fusepkg


@pytest.fixture
def package(fusepkg: Fusepkg, tmp_path: Path) -> str:
    """A package of one file, ``a``."""
    Path(os.environ["FUSEPKG_CONFIG"]).touch()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").write_text("a")
    fusepkg("push", tmp_path / "tree", "local/x:v1")
    return "local/x:v1"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (AccessDenied("no"), 4),
        (CacheFull("full"), 11),
        (KeyboardInterrupt(), 130),
        (BaseExceptionGroup("tasks", [ExceptionGroup("a", [ValueError()]), KeyboardInterrupt()]), 130),
        (OSError(errno.ENOSPC, "full"), 14),
        (ValueError("odd"), 70),
        (ExceptionGroup("tasks", [ValueError("odd")]), 70),
        (SystemExit(143), 143),
    ],
    ids=repr,
)
def test_each_error_has_its_exit_code_and_no_traceback(
    error: BaseException, status: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    def fail() -> None:
        raise error

    monkeypatch.setattr(entry, "app", fail)
    monkeypatch.setattr(sys, "argv", ["fusepkg"])
    assert entry._run() == status
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert said.startswith("Error: ") == (status in (4, 11, 14, 70))


def test_wrong_usage_is_2(fusepkg: Fusepkg):
    assert fusepkg("ls", check=False).returncode == 2
    assert fusepkg("nonsense", check=False).returncode == 2


def test_a_reader_that_leaves_is_no_error(package: str):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "fusepkg", "ls", package],
        stdout=writing, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_cache_directory_that_is_a_file_is_wrong_usage(fusepkg: Fusepkg, package: str, tmp_path: Path):
    file = tmp_path / "tree" / "a"
    (tmp_path / "m").mkdir()
    for command in (
        ("ls", package),
        ("cat", package, "a"),
        ("cache", "info"),
        ("cache", "clear"),
        ("mount", package, tmp_path / "m"),
    ):
        for wrong in (file, file / "below"):
            said = fusepkg("--cache-dir", wrong, *command, check=False)
            assert said.returncode == 2, (command, said.stderr)
            assert f"--cache-dir is {wrong}, which is not a directory" in said.stderr
    said = fusepkg("ls", package, check=False, env={"FUSEPKG_CACHE_DIR": str(file)})
    assert f"FUSEPKG_CACHE_DIR is {file}" in said.stderr
