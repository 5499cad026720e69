from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusepkg.state.trusted_file import why_not_ours

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files to other users")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "above" / "directory").mkdir(parents=True)
    for directory in (tmp_path, tmp_path / "above", tmp_path / "above" / "directory"):
        directory.chmod(0o755)
    file = tmp_path / "above" / "directory" / "file"
    file.touch(mode=0o644)
    return file


def test_a_file_of_ours_in_directories_of_ours_is_used(file: Path) -> None:
    assert why_not_ours(file) == ""


def test_what_others_can_write_is_not(file: Path) -> None:
    file.chmod(0o666)
    assert why_not_ours(file) == "can be written to by other users"
    file.chmod(0o644)
    file.parent.chmod(0o1777)  # sticky: but a file put there by others, and linked, would be ours
    assert why_not_ours(file) == f"lies in {file.parent}, which can be written to by other users"
    file.parent.chmod(0o755)
    file.parent.parent.chmod(0o777)
    assert why_not_ours(file) == f"lies below {file.parent.parent}, which can be written to by other users"
    file.parent.parent.chmod(0o1777)
    assert why_not_ours(file) == ""


def test_a_link_is_looked_at_on_both_sides(file: Path, tmp_path: Path) -> None:
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose" / "link").symlink_to(file)
    assert why_not_ours(tmp_path / "loose" / "link") == ""
    (tmp_path / "loose").chmod(0o777)
    assert f"lies below {tmp_path}/loose" in why_not_ours(tmp_path / "loose" / "link")
    (tmp_path / "loose").chmod(0o755)
    file.chmod(0o666)
    assert why_not_ours(tmp_path / "loose" / "link") == "can be written to by other users"


def test_there_is_no_answer_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        why_not_ours(tmp_path / "gone")


@needs_root
def test_what_belongs_to_others_is_not(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(file, 12345, -1)
    assert why_not_ours(file) == f"belongs to user 12345, not to {os.geteuid()}"
    monkeypatch.setenv("SUDO_UID", "12345")  # as git does: sudo is the caller's doing
    assert why_not_ours(file) == ""
    monkeypatch.setenv("SUDO_UID", "54321")
    os.chown(file, 0, -1)
    os.chown(file.parent, 12345, -1)
    assert why_not_ours(file) == f"lies in {file.parent}, which belongs to user 12345, not to {os.geteuid()}"
