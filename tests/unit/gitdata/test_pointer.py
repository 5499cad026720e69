"""Pointers: what is written is read again, and what is wrong is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fusepkg.errors import RepositoryUnfit
from fusepkg.gitdata.pointer import Origin, Pointer, parse_pointer

POINTER = Pointer("my-bucket/team/raw.01", "a" * 64, 10, 2)
IMPORTED = replace(POINTER, origin=Origin("https://example.com/registry", 'raw/"ü"', "", "b" * 40))


@pytest.mark.parametrize("pointer", [POINTER, IMPORTED, replace(POINTER, package="file:///a b//team/raw")])
def test_a_pointer_is_read_as_it_was_written(pointer: Pointer) -> None:
    assert parse_pointer(pointer.text().encode(), "raw.fusepkg") == pointer


def test_a_change_of_data_is_a_change_of_two_lines() -> None:
    before, after = POINTER.text().splitlines(), replace(POINTER, top_hash="c" * 64, size=11).text().splitlines()
    assert [old != new for old, new in zip(before, after, strict=True)] == [False, False, True, True, False]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "size = 10",
            "<<<<<<< HEAD\nsize = 10\n=======\nsize = 11\n>>>>>>> b",
            ["line 4", "merge conflict", "--theirs"],
        ),
        ("size = 10", "size = -1", ["'size'", "-1"]),
        ("size = 10", 'size = "10"', ["'size'"]),
        ("size = 10", "size = true", ["'size'"]),
        ("size = 10", "", ["no 'size'"]),
        ("size = 10", "size = 10\nsize = 10", ["no pointer", "line 5"]),
        ("size = 10", "size = 10\ncolour = 1", ["'colour'"]),
        ("size = 10", "size =", ["no pointer", "line 4"]),
        ('"' + "a" * 64, '"' + "a" * 63, ["no top hash"]),
        ('"' + "a" * 64, '"' + "A" * 64, ["no top hash"]),
        ("my-bucket/team/raw.01", "my-bucket/team/raw.01:v1", ["alone"]),
        ("my-bucket/team/raw.01", "nothing", ["names no package"]),
        ("my-bucket/team/raw.01", "dvc+https://ada:secret@example.com/x", ["password"]),
        ("files = 2", "files = 2\n[import]\nrepository = 1", ["'repository'"]),
        ("files = 2", "files = 2\nimport = 1", ["no table"]),
    ],
)
def test_a_pointer_edited_by_hand_is_refused(old: str, new: str, words: list[str]) -> None:
    text = POINTER.text().replace(old, new)
    assert text != POINTER.text()
    with pytest.raises(RepositoryUnfit) as caught:
        parse_pointer(text.encode(), "raw.fusepkg")
    assert "raw.fusepkg" in str(caught.value)
    assert "secret" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(RepositoryUnfit, match=r"raw\.fusepkg is not UTF-8"):
        parse_pointer(b"\xff", "raw.fusepkg")
