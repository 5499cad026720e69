"""Directories of this user alone, whatever the umask says."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fusepkg.work.private import make_private_directories


def modes(root: Path) -> dict[str, str]:
    places = [root, *(path for path in root.rglob("*") if path.is_dir())]
    return {str(path.relative_to(root)): oct(stat.S_IMODE(path.stat().st_mode)) for path in places}


def test_all_that_is_missing_is_private_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_private_directories(tmp_path / "a" / "b" / "c")
        (tmp_path / "a" / "loose").mkdir()
        make_private_directories(tmp_path / "a" / "loose" / "inner")
    finally:
        os.umask(before)
    assert modes(tmp_path / "a") == {
        ".": "0o700", "b": "0o700", "b/c": "0o700", "loose": "0o777", "loose/inner": "0o700",
    }  # fmt: skip
    make_private_directories(tmp_path / "a" / "b" / "c")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        make_private_directories(tmp_path / "file")


def test_commands_make_no_directory_that_others_may_enter(tmp_path: Path) -> None:
    """Under a umask of 0: what lies above cache, hints, records and the embedded registry is closed."""
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "a.txt").write_text("a")
    own = tmp_path / "own"
    own.mkdir(mode=0o700)
    script = (
        "umask 0; fusepkg push some local/some:v1 && fusepkg cat local/some:v1 a.txt"
        " && fusepkg install local/some:v1 --location out && fusepkg verify local/some:v1"
    )
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "FUSEPKG_CACHE_DIR": str(own / "deep" / "cache"),
        "FUSEPKG_DATA_DIR": str(own / "deep" / "data"),
    }
    subprocess.run(["sh", "-c", script], cwd=tmp_path, env=environment, check=True, capture_output=True)
    found = modes(own)
    inside_a_registry = tuple(name for name in found if name.startswith("deep/data/local/"))
    assert {mode for name, mode in found.items() if name not in inside_a_registry} == {"0o700"}
    assert {"deep", "deep/cache", "deep/cache/blobs", "deep/cache/index", "deep/data", "deep/data/local"} <= set(found)
