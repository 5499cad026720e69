"""Logs of mounts: their names, who may read them, and what happens where they cannot be made."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from fusepkg.daemon import logs


@pytest.mark.parametrize("name", [b"m", b"\xff", b"a\nb\x1b[2J", b"x" * 255, "\u6570".encode() * 85, b"a b"])
def test_any_mountpoint_has_a_private_log_with_a_legible_name(tmp_path: Path, name: bytes):
    path = logs.log_path_for(tmp_path / "cache", Path(os.fsdecode(b"/mnt/" + name)))
    assert path.parent == tmp_path / "cache" / "logs"
    assert path.name.isprintable()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_cache_that_cannot_be_written_to_leaves_the_runtime_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(logs, "runtime_directory", lambda: tmp_path / "run")
    (tmp_path / "file").touch()
    assert logs.log_path_for(tmp_path / "file", Path("/mnt/m")).parent == tmp_path / "run"
