"""Summarize a package for people: its top-level names and where their objects are."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from fusepkg.model.logical_key import tree_sort_key

if TYPE_CHECKING:
    from fusepkg.index.entries import EntryTable

LINES = 20
"""Names shown before the rest is counted."""

_LOOKED_AT = 200
"""Entries of a directory looked at to say where it lies, evenly spread: the text is drawn at every prompt."""

_ORIGINS = 5
"""Places named for one directory."""


def directory_range(entries: EntryTable, directory: str) -> range:
    """The numbers of all entries below a directory (``""`` or with a closing slash): they follow each other."""
    if not directory:
        return range(len(entries))
    place = tree_sort_key(directory)

    def place_of(number: int) -> str:
        return tree_sort_key(entries.logical_key(number))

    start = bisect_left(range(len(entries)), place, key=place_of)
    end = bisect_left(range(len(entries)), place[:-1] + "\1", lo=start, key=place_of)  # right after NUL, the separator
    return range(start, end)


def summarise(entries: EntryTable) -> list[tuple[str, str]]:
    """Each top-level name (a directory's with a slash) and where it lies, in tree order."""
    lines: list[tuple[str, str]] = []
    number = 0
    while number < len(entries):
        if len(lines) >= LINES:
            lines.append((f"... and {len(entries) - number} more entries", ""))
            break
        entry = entries.entry(number)
        name, slash, _ = entry.logical_key.partition("/")
        if not slash:
            lines.append((name, entry.physical_key.readable))
            number += 1
            continue
        numbers = directory_range(entries, f"{name}/")
        lines += [(f"{name}/", f"{origin}...") for origin in _origins(entries, numbers, f"{name}/")]
        number = numbers.stop
    return lines


def _origins(entries: EntryTable, numbers: range, directory: str) -> list[str]:
    """Where the entries of a directory lie: few places, each of which ends with a slash.

    Objects under other names, such as those that several entries share, only count where most are such.
    """
    step = max(1, len(numbers) // _LOOKED_AT)
    looked_at = [entries.entry(number) for number in dict.fromkeys([*numbers[::step], numbers[-1]])]
    pairs = [(entry.physical_key.readable, entry.logical_key[len(directory) :]) for entry in looked_at]
    own = [place.removesuffix(name) for place, name in pairs if place.endswith(f"/{name}")]
    others = [place.rpartition("/")[0] + "/" for place, name in pairs if not place.endswith(f"/{name}")]
    found: list[str] = []
    for origin in own + others if len(others) > len(own) else own:
        if not any(origin.startswith(known) for known in found):
            found.append(origin)
    return found[:_ORIGINS]
