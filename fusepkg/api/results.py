"""Results of comparing, verifying and changing, and how they print themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg.api.display import show_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusepkg.index.difference import Change


@dataclass(frozen=True, slots=True, repr=False)
class Verification:
    """True where a directory is what the package says; prints ``True``, or ``False`` and how it differs.

    ``lines`` has one line per difference.
    """

    lines: tuple[str, ...]
    advice: str

    def __bool__(self) -> bool:
        return not self.lines

    def __repr__(self) -> str:
        return f"False\n{show_lines(self.lines)}\n{self.advice}" if self.lines else "True"


@dataclass(frozen=True, slots=True, repr=False)
class Changes:
    """What was done to a directory, a line each; true where anything was."""

    lines: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.lines)

    def __repr__(self) -> str:
        return "Changes:\n" + show_lines(f"  {line}" for line in self.lines) if self.lines else "No changes"


@dataclass(frozen=True, slots=True, repr=False)
class Differences:
    """How one version differs from another, a line for each entry; true where it does. Iterates over the changes."""

    changes: tuple[Change, ...]

    @property
    def added(self) -> list[str]:
        """Logical keys that only the other version has."""
        return self._keys("added")

    @property
    def removed(self) -> list[str]:
        """Logical keys that only the first version has."""
        return self._keys("removed")

    @property
    def modified(self) -> list[str]:
        """Logical keys of entries with other bytes or metadata."""
        return self._keys("modified")

    def _keys(self, kind: str) -> list[str]:
        return [change.logical_key for change in self.changes if change.kind == kind]

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __len__(self) -> int:
        return len(self.changes)

    def __iter__(self) -> Iterator[Change]:
        return iter(self.changes)

    def __repr__(self) -> str:
        return show_lines(f"{change.kind} {change.logical_key}" for change in self.changes) or "No differences"
