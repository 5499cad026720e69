"""How packages, builders and listings print themselves, as the use cases show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LINES_SHOWN = 1_000
"""Lines of a listing that are printed: a directory may have a million names, and a notebook keeps what it shows."""


class Text(str):
    """Text that a prompt shows as it is, without quotes; a notebook renders it as Markdown."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    def _repr_markdown_(self) -> str:
        return str(self)


def show_package(kind: str, fields: Sequence[tuple[str, str]], contents: Sequence[tuple[str, str]]) -> str:
    """A ``Package`` or ``PackageBuilder``: its fields, then what it holds and where that lies, in columns.

    A line of the contents with nothing on the right is shown as it is; past the first thousand it is said how many
    there are.
    """
    if len(contents) > LINES_SHOWN:
        contents = [*contents[:LINES_SHOWN], (f"... and {len(contents) - LINES_SHOWN} more", "")]
    width = max((len(left) for left, right in contents if right), default=0) + 2
    lines = [f'    {_quoted(left):<{width}} -> "{right}"' if right else f"    {left}" for left, right in contents]
    shown = "".join(f'  {name}: "{value}",\n' for name, value in fields)
    return f"{kind}(\n{shown}  contents: [\n" + "".join(f"{line}\n" for line in lines) + "  ]\n)"


def show_lines(lines: Iterable[str]) -> str:
    """One item a line; past the first thousand, that there are more."""
    shown: list[str] = []
    for line in lines:
        if len(shown) == LINES_SHOWN:
            shown.append("... and more")
            break
        shown.append(line)
    return "\n".join(shown)


def _quoted(text: str) -> str:
    return f'"{text}"'
