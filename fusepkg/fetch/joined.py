"""Ranges of one batch that lie close together in a large blob, read as one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fusepkg.errors import FusepkgError
from fusepkg.fetch.chunks import is_chunked
from fusepkg.model.block_hashes import BLOCK_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fusepkg.model.entry import Entry

GAP_BYTES = BLOCK_BYTES
"""Ranges so close are read as one: at most a block that none of them wants lies between."""

MOST_BYTES = 32 << 20
"""A joined range is not longer, so that a batch does not hold all of a large file."""


@dataclass(slots=True)
class Joined:
    """``offset`` to ``end`` of an entry, and the numbers of the ranges in it."""

    entry: Entry
    offset: int
    end: int
    numbers: list[int] = field(default_factory=list)


def join_ranges(wanted: Sequence[tuple[Entry, int, int]]) -> list[Joined]:
    """Return ranges (entry, offset, length) so that those near each other are one; small blobs are as they were."""
    found: list[Joined] = []
    large: dict[tuple[str, str], list[int]] = {}
    for number, (entry, offset, length) in enumerate(wanted):
        if length and is_chunked(entry):
            large.setdefault((str(entry.physical_key), str(entry.digest)), []).append(number)
        else:
            found.append(Joined(entry, offset, offset + length, [number]))
    for numbers in large.values():
        last: Joined | None = None
        for number in sorted(numbers, key=lambda number: wanted[number][1]):
            entry, offset, length = wanted[number]
            end = min(offset + length, entry.size)
            if last is None or offset - last.end > GAP_BYTES or max(end, last.end) - last.offset > MOST_BYTES:
                last = Joined(entry, offset, end)
                found.append(last)
            last.end = max(last.end, end)
            last.numbers.append(number)
    return found


def split_joined(
    joined: Joined, wanted: Sequence[tuple[Entry, int, int]], data: bytes | FusepkgError
) -> dict[int, bytes | FusepkgError]:
    """Return what the bytes of a joined range, or the error in their place, are for each range in it."""
    if isinstance(data, FusepkgError) or len(joined.numbers) == 1:
        return dict.fromkeys(joined.numbers, data)
    starts = {number: wanted[number][1] - joined.offset for number in joined.numbers}
    return {number: data[start : start + wanted[number][2]] for number, start in starts.items()}
