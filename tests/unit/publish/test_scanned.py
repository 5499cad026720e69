"""Scanned files come out of their records as they were put in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fusepkg.model.entry import EntryKind
from fusepkg.publish.scanned import ScannedFile, ScannedFiles
from fusepkg.state.file_identity import FileIdentity

ROOT = b"/data"
IDENTITY = FileIdentity(7, 1 << 63, 5, -1, 1_700_000_000_000_000_001, "disk ext4 x")
FILE = ScannedFile("d/ä.txt", EntryKind.FILE, IDENTITY, "/data/d/ä.txt".encode())
FILES = [
    FILE,
    replace(FILE, kind=EntryKind.EXECUTABLE),
    replace(FILE, path=b"/elsewhere"),
    replace(FILE, identity=replace(IDENTITY, device=8, filesystem="mount 1")),
    replace(FILE, identity=replace(IDENTITY, mtime_ns=1 << 70)),  # after 2262
    ScannedFile("link", EntryKind.SYMLINK, IDENTITY, link="d/ä.txt", leads_out=True),
    ScannedFile("empty/.keep", EntryKind.EMPTY_DIRECTORY, FileIdentity(0, 0, 0, 0, 0)),
]


@pytest.fixture
def files() -> ScannedFiles:
    files = ScannedFiles(ROOT)
    for file in FILES:
        files.append(file)
    return files


def test_each_comes_back_as_it_was(files: ScannedFiles) -> None:
    assert list(files) == files[:] == FILES
    assert list(files.logical_keys) == [file.logical_key for file in FILES]
    assert [files.get_size(number) for number in range(len(FILES))] == [file.size for file in FILES]
    with pytest.raises(IndexError):
        files[len(FILES)]


@pytest.mark.parametrize("number", range(len(FILES)))
def test_one_can_be_replaced_by_any_other_of_its_name(files: ScannedFiles, number: int) -> None:
    for other in FILES:
        if other.logical_key == FILES[number].logical_key:
            files.replace(number, other)
            assert list(files) == [*FILES[:number], other, *FILES[number + 1 :]]


def test_a_file_system_is_named_once() -> None:
    files = ScannedFiles(ROOT)
    for _ in range(100):
        for system in ("a", "b"):
            files.append(replace(FILE, identity=replace(IDENTITY, filesystem=system)))
    assert [file.identity.filesystem for file in files] == ["a", "b"] * 100
