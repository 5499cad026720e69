"""Fails where a module or function has grown past what a reader holds in mind at once."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 60
FOLDERS = ("fusepkg", "cache", "tests", "scripts", "bench")


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


def main(root: Path) -> int:
    """Check every module below a checkout; the exit code."""
    modules = sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py"))
    found = [line for path in modules for line in too_large(path.read_text(), str(path.relative_to(root)))]
    sys.stdout.write("\n".join([*found, f"{len(modules)} modules, {len(found)} places too large", ""]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).parents[1]))
