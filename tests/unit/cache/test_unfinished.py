from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fusepkg_cache.unfinished import UnfinishedFiles, sweep


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    (tmp_path / "staging").mkdir()
    return tmp_path / "staging"


def test_a_file_is_written_whole_and_read_only(parent: Path) -> None:
    staging = UnfinishedFiles(parent)
    path = staging.write([b"by", b"tes"])
    assert path.read_bytes() == b"bytes"
    assert path.stat().st_mode & 0o777 == 0o400
    assert path.parent.parent == parent
    staging.close()
    assert os.listdir(parent) == []


def test_nothing_is_made_before_the_first_file(parent: Path) -> None:
    UnfinishedFiles(parent).close()
    assert os.listdir(parent) == []


def test_what_a_dead_process_left_is_swept_and_what_lives_is_not(parent: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from fusepkg_cache.unfinished import UnfinishedFiles
UnfinishedFiles(Path({str(parent)!r})).write([b"half"])
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program], check=False, timeout=30)
    assert len(os.listdir(parent)) == 1
    alive = UnfinishedFiles(parent)
    kept = alive.write([b"mine"])  # sweeps
    assert os.listdir(parent) == [kept.parent.name]
    assert sweep(parent) == 0
    assert kept.exists()
    alive.close()


def test_a_removed_directory_is_made_again(parent: Path) -> None:
    staging = UnfinishedFiles(parent)
    staging.write([b"lost"])
    shutil.rmtree(parent)
    assert staging.write([b"kept"]).read_bytes() == b"kept"
    staging.close()


def test_foreign_files_are_left(parent: Path) -> None:
    (parent / "note").touch()
    assert sweep(parent) == 0
    assert (parent / "note").exists()


def test_a_file_that_cannot_be_written_whole_is_removed(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    staging = UnfinishedFiles(parent)
    directory = staging.directory()

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        staging.write([b"by", b"tes"])
    assert os.listdir(directory) == []
    staging.close()
