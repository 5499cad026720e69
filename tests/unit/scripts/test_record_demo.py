"""What the recorded session shows is what a terminal would."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from scripts.record_demo import Cell, Screen, record, render


def text_of(lines: list[list[Cell]]) -> list[str]:
    return ["".join(cell.character for cell in line).rstrip() for line in lines]


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("one\r\ntwo\r\n", ["one", "two", ""]),
        ("12 %\r\x1b[2K100 %\r\n", ["100 %", ""]),
        ("bar\r\nbar\r\n\x1b[1A\x1b[2K\x1b[1A\x1b[2Kdone\r\n", ["done", "", ""]),
        ("\x1b[?25lhidden cursor\x1b[?25h", ["hidden cursor"]),
        ("a\tb", ["a       b"]),
        ("x" * 81, ["x" * 80, "x"]),
        ("\x1b]0;a title\x07here", ["here"]),
    ],
    ids=["lines", "overwritten", "erased upwards", "cursor", "tab", "wrapped", "title"],
)
def test_control_sequences(written: str, shown: list[str]) -> None:
    screen = Screen()
    screen.show(written)
    assert text_of(screen.lines) == shown


def test_a_command_runs_in_a_terminal_and_the_drawing_is_xml(tmp_path: Path) -> None:
    lines = record("test -t 1 && printf '\\033[31m<&>\\033[0m %s' ~", tmp_path)
    assert text_of(lines)[1] == "<&> /home/ada"
    drawing = ElementTree.fromstring(render([lines]))
    assert "<&>" in "".join(drawing.itertext())
    assert any(
        "fill:#ff7b72" in (span.get("style") or "") for span in drawing.iter("{http://www.w3.org/2000/svg}tspan")
    )
