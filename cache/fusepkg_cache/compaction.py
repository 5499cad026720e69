"""Giving back the room of dropped blobs: what is left of a segment goes to the newest one, and the file is removed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fusepkg_cache.index_page import SMALL
from fusepkg_cache.segment_format import BLOB, HEADER_BYTES, MAGIC, padding, parse_header, record_bytes

if TYPE_CHECKING:
    from fusepkg_cache.index import BlobIndex
    from fusepkg_cache.index_change import IndexChange
    from fusepkg_cache.index_page import IndexEntry
    from fusepkg_cache.segments import Segments

LEFT_AT_LEAST = 0.75
"""Part of a segment that has to be left, or it is rewritten, when blobs were dropped one by one."""


def live_entries(change: IndexChange, segments: Segments, number: int) -> list[IndexEntry]:
    """The entries of the index that lead to a segment."""
    found = []
    for record in segments.records(number):
        entry = change.find(record.key)
        if entry is not None and (entry.segment, entry.offset) == (number, record.offset):
            found.append(entry)
    return found


def compact(change: IndexChange, segments: Segments, number: int, *, below: float) -> bool:
    """Copy what is left of a segment to the newest one and drop the file, if less than this part of it is left."""
    size = segments.size(number)
    live = live_entries(change, segments, number)
    left = sum(entry.length if entry.kind == SMALL else 0 for entry in live)
    if size and left >= below * size:
        return False
    if number == change.header.segment:
        change.header.end = 1 << 62  # the next append begins a new one
    copies: list[tuple[IndexEntry, tuple[bytes, bytes, bytes]]] = []
    for entry in live:
        record = raw_record(segments, entry)
        if record is not None:
            copies.append((entry, record))
        elif entry.kind == SMALL:
            change.drop(entry.key)
        else:
            change.put(entry._replace(segment=0, offset=0))
    if copies:
        places = segments.append(change.header, [record for _, record in copies])
        for (entry, _), (segment, offset) in zip(copies, places, strict=True):
            change.put(entry._replace(segment=segment, offset=offset))
    change.header.dead_bytes = max(0, change.header.dead_bytes - max(0, size - left))
    change.afterwards(lambda: segments.drop(number))
    return True


def raw_record(segments: Segments, entry: IndexEntry) -> tuple[bytes, bytes, bytes] | None:
    """The record an entry leads to, to be copied; None if it is another one, or cannot be read."""
    try:
        length = entry.length
        if entry.kind != SMALL:
            head = parse_header(segments.raw(entry.segment, entry.offset, 0))
            length = -1 if head is None else head.length
        data = segments.raw(entry.segment, entry.offset, max(0, length))
    except OSError:
        return None
    head = parse_header(data[:HEADER_BYTES])
    if head is None or head.key != entry.key or len(data) != HEADER_BYTES + head.length:
        return None
    if (head.kind == BLOB) != (entry.kind == SMALL):
        return None
    return data[:HEADER_BYTES], data[HEADER_BYTES:], padding(head.length)


def tidy(index: BlobIndex, segments: Segments) -> None:
    """Rewrite the segments of which much was dropped, one change each. Raises OSError, CacheUnusable."""
    left: dict[int, int] = {}
    for run in index.runs():
        for entry in run:
            if entry.segment:
                taken = record_bytes(entry.length) if entry.kind == SMALL else HEADER_BYTES
                left[entry.segment] = left.get(entry.segment, 0) + taken
    for number in segments.numbers():
        size = segments.size(number)
        if size > len(MAGIC) and left.get(number, 0) < LEFT_AT_LEAST * size:
            index.change(partial(compact, segments=segments, number=number, below=LEFT_AT_LEAST))
    index.change(_nothing_dead)


def _nothing_dead(change: IndexChange) -> None:
    change.header.dead_bytes = 0
