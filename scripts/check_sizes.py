"""Fails where a module or function is too large to hold in mind at once, or where two classes have one name."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 60
FOLDERS = ("fusepkg", "cache", "tests", "scripts", "bench")
ONE_MEANING = ("fusepkg", "cache")
"""Where the name of a class stands for one thing, so that who searches for it finds one definition."""


def too_large(source: str, name: str) -> Iterator[str]:
    """A line for the module, if it is too long, and one for each of its functions that is."""
    lines = source.count("\n")
    if lines > MAX_MODULE_LINES:
        yield f"{name}: {lines} lines, at most {MAX_MODULE_LINES}: split it by what it owns"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            length = node.end_lineno - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                yield f"{name}:{node.lineno}: {node.name} has {length} lines, at most {MAX_FUNCTION_LINES}"


def repeated_classes(sources: Mapping[str, str]) -> Iterator[str]:
    """A line for each class whose name another module's has too; names with an underscore are a module's own."""
    first: dict[str, str] = {}
    for module, source in sources.items():
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                other = first.setdefault(node.name, module)
                if other != module:
                    yield f"{module}:{node.lineno}: {other} has a class {node.name} too: rename one by what it is"


def main(root: Path) -> int:
    """Check every module below a checkout; the exit code."""
    modules = sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py"))
    found = [line for path in modules for line in too_large(path.read_text(), str(path.relative_to(root)))]
    named = [path for path in modules if path.relative_to(root).parts[0] in ONE_MEANING]
    found += repeated_classes({str(path.relative_to(root)): path.read_text() for path in named})
    sys.stdout.write("\n".join([*found, f"{len(modules)} modules, {len(found)} places to mend", ""]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).parents[1]))
