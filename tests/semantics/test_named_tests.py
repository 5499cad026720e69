"""The tests that the pages of docs/design name are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
THREATS = ROOT / "docs" / "design" / "threat-model.md"
DISASTERS = ROOT / "docs" / "design" / "disasters.md"

_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def named_tests(page: Path) -> list[tuple[str, str]]:
    """Modules and functions that a page names."""
    return _TEST.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", [DISASTERS, THREATS], ids=lambda page: page.stem)
def test_each_named_test_is_there(page: Path) -> None:
    missing = [
        f"{module}::{name}"
        for module, name in named_tests(page)
        if not (ROOT / module).is_file() or f"def {name}(" not in (ROOT / module).read_text(encoding="utf-8")
    ]
    assert missing == []


def test_each_threat_has_a_test() -> None:
    threats = THREATS.read_text(encoding="utf-8").partition("## What a mount's process gives up")[0]
    sentences = re.split(r"^- ", threats, flags=re.MULTILINE)[1:]
    assert len(sentences) > 15
    assert [sentence for sentence in sentences if not _TEST.search(sentence)] == []


def test_each_disaster_has_a_test() -> None:
    rows = [line for line in DISASTERS.read_text(encoding="utf-8").splitlines() if re.match(r"\| [a-z0-9_]+ \|", line)]
    assert len(rows) > 30
    assert [row for row in rows[1:] if not _TEST.search(row)] == []


def test_each_disaster_s_test_has_its_name() -> None:
    rows = re.findall(r"^\| (\w+) \|.*::test_(\w+)` \|$", DISASTERS.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) > 30
    assert [name for name, test in rows if name != test] == []
