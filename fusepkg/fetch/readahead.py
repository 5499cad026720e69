"""Chunks worth fetching before they are asked for: those ahead of a reader that goes through a large blob in order."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg_cache.digest import chunk_count, chunk_size

if TYPE_CHECKING:
    from fusepkg.model.entry import Entry

MAX_AHEAD = 8
"""Most chunks fetched ahead of one reader."""

STREAMS = 64
"""Readers whose positions are remembered."""

NEAR_BYTES = 1024 * 1024
"""A read this close to the last one's end goes on in order: the kernel asks for parts side by side."""


@dataclass(slots=True)
class _Stream:
    """One reader within a chunk. ``chunks`` it has read through, ``in_order`` bytes of this one."""

    position: int
    reads: int = 0
    chunks: int = 0
    in_order: int = 0
    asked_to: int = 0


class Readahead:
    """Tells readers that go through a blob in order from those that jump."""

    def __init__(self) -> None:
        self._streams: OrderedDict[tuple[bytes, int], _Stream] = OrderedDict()

    def note(self, entry: Entry, offset: int, end: int, most: int = MAX_AHEAD) -> range:
        """Note a read of a large blob; return the chunks to fetch ahead now, each once.

        The first is due once half a chunk was read in order; from then on as many as chunks were read so, doubled.
        """
        size = chunk_size(entry.size)
        first, last = offset // size, (end - 1) // size
        stream = self._moved(entry.digest.value, first, last, offset, size)
        if abs(offset - stream.position) > NEAR_BYTES:
            stream.in_order = 0
            stream.position = end
        stream.in_order += end - max(offset, last * size)
        stream.position = max(stream.position, end)
        stream.reads += 1
        if stream.reads == 1 or (stream.chunks == 0 and stream.in_order < size // 2):
            return range(0)
        start = max(last + 1, stream.asked_to)
        stop = min(last + 1 + min(2**stream.chunks, most), chunk_count(entry.size))
        stream.asked_to = max(stop, stream.asked_to)
        return range(start, stop)

    def _moved(self, name: bytes, first: int, last: int, offset: int, size: int) -> _Stream:
        """Return the stream that the read goes on with, or a new one."""
        stream = self._streams.pop((name, first), None)
        if stream is None:
            before = self._streams.get((name, first - 1))
            if before is not None and before.in_order >= size * 3 // 4 and offset - before.position <= NEAR_BYTES:
                stream = self._streams.pop((name, first - 1))
                stream.chunks, stream.in_order = min(stream.chunks + 1, 16), 0
        if stream is None:
            stream = _Stream(offset)
        if last > first:
            read_through = stream.in_order + (first + 1) * size - offset >= size * 3 // 4
            stream.chunks, stream.in_order = min(stream.chunks + last - first - 1 + read_through, 16), 0
        self._streams[name, last] = stream
        while len(self._streams) > STREAMS:
            self._streams.popitem(last=False)
        return stream
