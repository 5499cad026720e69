"""What cannot be mounted on is refused at the door."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusepkg.daemon.mountpoint import checked_mountpoint, claimed_mountpoint
from fusepkg.errors import MountpointUnfit


def test_an_empty_directory_is_fit_and_its_links_are_resolved(tmp_path: Path):
    (tmp_path / "m").mkdir()
    (tmp_path / "link").symlink_to("m")
    assert checked_mountpoint(tmp_path / "link") == (tmp_path / "m").resolve()


def test_a_path_that_is_not_utf_8_is_refused(tmp_path: Path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    path.mkdir()
    with pytest.raises(MountpointUnfit, match="not UTF-8"):
        checked_mountpoint(path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.touch(), "is a file"),
        (lambda path: (path / "inside").mkdir(parents=True), "is not empty"),
    ],
    ids=["missing", "file", "not empty"],
)
def test_other_things_are_refused_with_their_reason(tmp_path: Path, make, words: str):
    make(tmp_path / "m")
    with pytest.raises(MountpointUnfit, match=words):
        checked_mountpoint(tmp_path / "m")


def test_a_path_through_a_file_is_refused(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(MountpointUnfit, match="runs through a file"):
        checked_mountpoint(tmp_path / "file" / "m")


def test_one_claims_a_directory_at_a_time(tmp_path: Path):
    (tmp_path / "m").mkdir()
    with (
        claimed_mountpoint(tmp_path / "m"),
        pytest.raises(MountpointUnfit, match="by another"),
        claimed_mountpoint(tmp_path / "m"),
    ):
        pass
    with claimed_mountpoint(tmp_path / "m"):
        pass
