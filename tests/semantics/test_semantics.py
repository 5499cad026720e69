"""What docs/reference/semantics.md promises and what the tests of mounts prove are the same sentences."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "semantics.md"
MODULES = sorted((ROOT / "tests" / "mount").glob("test_*.py"))


def promised(page: str) -> dict[str, list[str]]:
    """The promises of each table, by the module its head names."""
    tables: dict[str, list[str]] = {}
    rows: list[str] = []
    for line in page.splitlines():
        if found := re.fullmatch(r"\| `(tests/mount/\w+\.py)` \|", line):
            rows = tables[found[1]] = []
        elif (found := re.fullmatch(r"\| (.+) \|", line)) and tables:
            rows.append(found[1])
    return tables


def proven(module: Path) -> list[str]:
    """The first sentence of each test of a module, each once, in order."""
    sentences: dict[str, None] = {}
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            words = (ast.get_docstring(node) or f"{node.name} says nothing").split("\n\n")[0].split()
            sentences[" ".join(words)] = None
    return list(sentences)


def test_every_module_has_its_table() -> None:
    tables = promised(PAGE.read_text(encoding="utf-8"))
    assert sorted(tables) == [str(module.relative_to(ROOT)) for module in MODULES]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_each_promise_is_the_first_sentence_of_a_test(module: Path) -> None:
    assert promised(PAGE.read_text(encoding="utf-8"))[str(module.relative_to(ROOT))] == proven(module)
