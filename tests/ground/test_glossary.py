"""The glossary and the code use the same names."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_glossary_names_only_what_the_code_has() -> None:
    glossary = (ROOT / "docs" / "reference" / "glossary.md").read_text()
    named = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)`", glossary))
    code = "\n".join(path.read_text() for path in (ROOT / "fusepkg").rglob("*.py"))
    code += "\n".join(path.read_text() for path in (ROOT / "cache").rglob("*.py"))
    assert named
    assert {name for name in named if not re.search(rf"^(?:class {name}\b|{name}\b.* = )", code, re.MULTILINE)} == set()
