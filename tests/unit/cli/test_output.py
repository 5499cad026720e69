"""What is printed: as it is for programs, harmless on a terminal."""

from __future__ import annotations

import io

import pytest

from fusepkg.cli.output import _legible


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb\n", r"a\x1b[2Jb\n"),
        ("\udcff", r"\udcff"),
        ("\x9b", r"\x9b"),
        ("\u6570 \u00a0\u3000", "\u6570 \u00a0\u3000"),
        ("\u2028", r"\u2028"),
    ],
)
def test_no_name_steers_a_terminal(text: str, shown: str):
    assert _legible(text, Terminal()) == shown
    assert _legible(text, io.StringIO()) == text
