"""Whether a part of a chunk is read by blocks, or the chunk is fetched: by how it is read, and what that costs."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg_cache.digest import chunk_size

from fusepkg.model.block_hashes import BLOCK_BYTES, blocks_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fusepkg_cache.digest import Digest

    from fusepkg.fetch.chunks import Span
    from fusepkg.model.entry import Entry

REQUEST_BYTES = 512 * 1024
"""What could be fetched in the time that one more request takes. Once the requests for parts of a chunk have cost as
much as the chunk, it is fetched: at most its bytes come twice, and no reader makes many small requests."""

WHOLE_SHARE = 7 / 8
"""A chunk of which one read wants this much is fetched as a chunk."""

FEW_CHUNKS = 4
"""Up to so many whole chunks within a read come by blocks too, if the chunk list would have to be fetched for them."""

IN_ORDER_BYTES = 256 * 1024
"""A reader who has read this much without a jump, in at least two reads, goes on, and gets chunks."""

FROM_START_BYTES = 128 * 1024
"""So does a first read of at least this length from byte 0: a program that copies a file, or reads all of it."""

NEAR_BYTES = 2 * BLOCK_BYTES
"""A read this close to the end of the last one is no jump."""

CHUNKS_KEPT = 4096
"""Chunks of which is known how they are read."""


@dataclass(slots=True)
class _Use:
    """How a chunk is read. ``cost`` is what its blocks have cost, in bytes; ``fetched_to`` where the last one ends."""

    position: int
    in_order: int = 0
    reads: int = 0
    cost: int = 0
    fetched_to: int = -1


class BlockChoice:
    """Remembers of each chunk how it is read, by the root of its blob's block hashes and its number."""

    def __init__(self) -> None:
        self._uses: OrderedDict[tuple[Digest, int], _Use] = OrderedDict()

    def choose(self, entry: Entry, root: Digest, spans: Sequence[Span], *, has_chunk_list: bool) -> list[Span]:
        """Return those spans of one read that are to be read by blocks."""
        if self._goes_on(entry, root, spans):
            return []
        sizes = {span.chunk: _chunk_bytes(entry, span.chunk) for span in spans}
        whole = {span.chunk for span in spans if span.high - span.low >= WHOLE_SHARE * sizes[span.chunk]}
        if len(whole) == len(spans):
            return []
        by_chunk = whole if has_chunk_list or len(whole) > FEW_CHUNKS else set()
        by_blocks = whole - by_chunk
        return [
            span
            for span in spans
            if span.chunk in by_blocks
            or (span.chunk not in by_chunk and self._cost(root, span, sizes[span.chunk]) <= sizes[span.chunk])
        ]

    def note_fetch(self, root: Digest, index: int, offset: int, length: int) -> None:
        """Note that bytes of a chunk are fetched by blocks; what follows the last ones comes in the same request."""
        use = self._use(root, index, 0)
        use.cost += length + REQUEST_BYTES * (offset != use.fetched_to)
        use.fetched_to = offset + length

    def _cost(self, root: Digest, span: Span, size: int) -> int:
        """Return what the blocks of a chunk will have cost with this read; the first request would be one anyway."""
        before = self._use(root, span.chunk, span.low).cost
        blocks = min(len(blocks_of(span.low, span.high)) * BLOCK_BYTES, size)
        return before + (REQUEST_BYTES if before else 0) + blocks

    def _goes_on(self, entry: Entry, root: Digest, spans: Sequence[Span]) -> bool:
        """Note a read, and return whether its reader reads on in order."""
        first, last = spans[0], spans[-1]
        length = sum(span.high - span.low for span in spans)
        before = self._before(entry, root, first)
        use = self._use(root, last.chunk, last.low)
        in_order, reads = (before.in_order, before.reads) if before is not None else (0, 0)
        use.position, use.in_order, use.reads = last.high, in_order + length, reads + 1
        if first.chunk == 0 and first.low == 0 and length >= FROM_START_BYTES:
            use.in_order, use.reads = max(use.in_order, IN_ORDER_BYTES), max(use.reads, 2)
            return True
        return reads > 1 and in_order >= IN_ORDER_BYTES

    def _before(self, entry: Entry, root: Digest, first: Span) -> _Use | None:
        """Return how the chunk was read up to where a read begins, or the chunk before it; None if that was a jump."""
        use = self._uses.get((root, first.chunk))
        if use is not None and abs(first.low - use.position) <= NEAR_BYTES:
            return use
        use = self._uses.get((root, first.chunk - 1))
        if use is not None and first.low + chunk_size(entry.size) - use.position <= NEAR_BYTES:
            return use
        return None

    def _use(self, root: Digest, index: int, low: int) -> _Use:
        use = self._uses.setdefault((root, index), _Use(low))
        self._uses.move_to_end((root, index))
        if len(self._uses) > CHUNKS_KEPT:
            self._uses.popitem(last=False)
        return use


def _chunk_bytes(entry: Entry, index: int) -> int:
    size = chunk_size(entry.size)
    return min(size, entry.size - index * size)
