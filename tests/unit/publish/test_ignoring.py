from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from fusepkg.errors import FolderUnfit
from fusepkg.publish.ignore_patterns import parse_pattern
from fusepkg.publish.ignoring import Ignoring


def ignored_by(directory: Path, patterns: str, keys: list[str]) -> list[str]:
    (directory / ".fusepkgignore").write_text(patterns)
    ignoring = Ignoring(directory)
    return [key for key in keys if ignoring.leaves_out(key, False)]


@pytest.mark.parametrize(
    "pattern",
    [
        "*a" * 100 + "b",
        "a*" * 100 + "/b",
        "**/a/" * 100 + "b",
        "[a-z]*" * 80 + "1",
        "*?" * 120 + "b",
        "/a**" * 60 + "/b",
    ],
)
def test_no_pattern_takes_long(tmp_path: Path, pattern: str) -> None:
    # By a regular expression the first of these takes longer than the universe is old.
    keys = ["a" * 255, "/".join(["a"] * 2000), "/".join(["a" * 200] * 20)]
    assert ignored_by(tmp_path, f"{pattern}\n", keys) == []


def test_a_pattern_matches_in_a_number_of_steps_bounded_by_both_lengths() -> None:
    steps = 0

    class Letter(str):
        def __eq__(self, other: object) -> bool:
            nonlocal steps
            steps += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    pattern = parse_pattern("*a" * 100 + "b")
    assert pattern is not None
    name = "a" * 255
    (part,) = pattern.parts[1:]
    counted = tuple(None if piece is None else Letter(piece.__self__).__eq__ for piece in part)  # type: ignore[union-attr]
    assert not type(pattern)(True, False, ("**", counted)).matches([name], False)
    assert steps <= len(part) * len(name)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"fine\nna\xefve\n", "line 2 of the ignore file .* is not UTF-8: b'na"),
        (b"x\n" * 600_000, "more than 1,048,576 bytes"),
    ],
)
def test_a_damaged_ignore_file_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / ".fusepkgignore").write_bytes(data)
    with pytest.raises(FolderUnfit, match=message):
        Ignoring(tmp_path).leaves_out("a", False)


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_a_pattern(tmp_path: Path) -> None:
    (tmp_path / ".fusepkgignore").write_bytes(b"\xef\xbb\xbfa\r\nb\r\n")
    ignoring = Ignoring(tmp_path)
    assert [ignoring.leaves_out(name, False) for name in "abc"] == [True, True, False]


def test_an_ignore_file_that_others_can_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / ".quiltignore").write_text("x\n")
    (tmp_path / "sub" / ".quiltignore").chmod(0o666)
    assert not Ignoring(tmp_path).leaves_out("x", False)
    with pytest.raises(FolderUnfit, match="is not used: it can be written to by other users"):
        Ignoring(tmp_path).leaves_out("sub/x", False)


PIECES = [
    "a",
    "b",
    "ab",
    "*",
    "**",
    "?",
    "/",
    "/",
    "[ab]",
    "[!a]",
    "[a-b]",
    "\\a",
    "[]a]",
    "[[:alpha:]]",
    "!",
    " ",
    "#",
]


def test_patterns_mean_what_git_says(tmp_path: Path) -> None:
    chance = random.Random(7)
    names = ["a", "b", "ab", "ba", "#", "!a", "]", "a b", ".a", "aab"]
    keys = sorted({"/".join(chance.choices(names, k=chance.randint(1, 4))) for _ in range(300)})
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True, timeout=60)
    for _ in range(40):
        lines = ["".join(chance.choices(PIECES, k=chance.randint(1, 6))) for _ in range(chance.randint(1, 3))]
        text = "".join(f"{line}\n" for line in lines)
        (tmp_path / ".gitignore").write_text(text)
        (tmp_path / ".fusepkgignore").write_text(text)
        told = subprocess.run(
            ["git", "-C", str(tmp_path), "check-ignore", "--no-index", "--stdin", "-z"],
            input="\0".join(keys), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        theirs = {key for key in told.stdout.split("\0") if key}
        ignoring = Ignoring(tmp_path)
        assert {key for key in keys if _is_out(ignoring, key)} == theirs, text


def _is_out(ignoring: Ignoring, key: str) -> bool:
    """As the walk asks: a directory that is left out takes what is below it along."""
    names = key.split("/")
    above = ["/".join(names[:depth]) for depth in range(1, len(names))]
    return any(ignoring.leaves_out(directory, True) for directory in above) or ignoring.leaves_out(key, False)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file to another user")
def test_an_ignore_file_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".fusepkgignore").write_text("x\n")
    os.chown(tmp_path / ".fusepkgignore", 12345, -1)
    with pytest.raises(FolderUnfit, match="is not used: it belongs to user 12345"):
        Ignoring(tmp_path).leaves_out("x", False)
