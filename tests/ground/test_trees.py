"""The trees are what they say, and the same each time."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trees import CHUNK_BYTES, LARGE_BYTES, everything, small


def fingerprint(root: Path) -> str:
    """Names, kinds, modes and bytes of a tree."""
    seen = hashlib.sha256()
    for place, directories, files in os.walk(root):
        directories.sort()
        for name in sorted([*directories, *files]):
            path = Path(place) / name
            seen.update(f"{path.relative_to(root)!r} {path.lstat().st_mode:o}".encode())
            if path.is_symlink():
                seen.update(os.fsencode(path.readlink()))
            elif path.is_file():
                seen.update(hashlib.sha256(path.read_bytes()).digest())
    return seen.hexdigest()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return everything(tmp_path_factory.mktemp("everything"))


def test_small_is_the_same_each_time(tmp_path: Path) -> None:
    assert fingerprint(small(tmp_path / "one")) == fingerprint(small(tmp_path / "two"))
    assert len([path for path in (tmp_path / "one").rglob("*") if path.is_file() and not path.is_symlink()]) == 14


def test_everything_has_what_it_promises(tree: Path) -> None:
    paths = list(tree.rglob("*"))
    files = [path for path in paths if path.is_file() and not path.is_symlink()]
    assert len(files) > 1000
    assert max(len(os.fsencode(path.name)) for path in files) == 255
    sizes = {path.stat().st_size for path in files}
    assert {0, 4095, 4096, 4097, CHUNK_BYTES, LARGE_BYTES} <= sizes
    assert any(path.is_dir() and not any(path.iterdir()) for path in paths)
    assert {path.resolve().is_dir() for path in paths if path.is_symlink()} == {True, False}
    assert all(path.resolve().is_relative_to(tree.resolve()) for path in paths if path.is_symlink())
    assert any(os.access(path, os.X_OK) for path in files)


def test_everything_works_as_programs_and_python(tree: Path) -> None:
    assert subprocess.check_output([tree / "bin" / "hello", "you"], text=True) == "hello you\n"
    code = "import treepackage; print(treepackage.ANSWER)"
    command = [sys.executable, "-B", "-c", code]
    assert subprocess.check_output(command, text=True, env={"PYTHONPATH": str(tree / "python")}) == "42\n"
