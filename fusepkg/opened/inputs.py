"""The packages that this process has opened, recorded as inputs of those it builds."""

from __future__ import annotations

_opened: dict[str, None] = {}
"""References with whole hashes, in the order they were first opened. Atomic to add to, from any thread."""


def note_opened(reference: str) -> None:
    """A version has been opened."""
    _opened[reference] = None


def opened_packages() -> list[str]:
    """All versions opened in this process, first ones first."""
    return list(_opened)
