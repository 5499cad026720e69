"""Each name of a class means one thing: a reader who greps for it finds one definition."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]


def public_classes(module: Path) -> list[str]:
    """Names of a module's classes, but those that are the module's own by their underscore."""
    statements = ast.parse(module.read_text()).body
    return [node.name for node in statements if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]


def test_no_two_classes_have_one_name() -> None:
    modules: dict[str, list[str]] = defaultdict(list)
    for folder in ("fusepkg", "cache"):
        for module in sorted((ROOT / folder).rglob("*.py")):
            for name in public_classes(module):
                modules[name].append(str(module.relative_to(ROOT)))
    assert len(modules) > 400
    assert {name: places for name, places in modules.items() if len(places) > 1} == {}


def test_the_glossary_names_only_what_the_code_has() -> None:
    glossary = (ROOT / "docs" / "reference" / "glossary.md").read_text()
    named = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)`", glossary))
    code = "\n".join(path.read_text() for path in (ROOT / "fusepkg").rglob("*.py"))
    code += "\n".join(path.read_text() for path in (ROOT / "cache").rglob("*.py"))
    assert named
    assert {name for name in named if not re.search(rf"^(?:class {name}\b|{name}\b.* = )", code, re.MULTILINE)} == set()
