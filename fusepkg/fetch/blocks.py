"""Small reads of large blobs whose publisher wrote block hashes: blocks of 64 KiB instead of chunks of 8 MiB.

The list of block hashes lies in the bucket and is not believed: what vouches for it is in the entry, and so covered by
the top hash (``model.block_hashes``). Where it cannot be had, is wrong, or does not come soon, chunks are fetched.

All methods run on one trio thread.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import trio
from fusepkg_cache.digest import DIGEST_BYTES, Algorithm, Digest, chunk_count, chunk_size

from fusepkg.errors import DigestMismatch, FusepkgError, ObjectMissing
from fusepkg.fetch.bucket import is_transient
from fusepkg.fetch.chunks import nth_digest
from fusepkg.fetch.piece import Kind, Piece
from fusepkg.model.block_hashes import BLOCK_BYTES, block_root, head_bytes, list_bytes, part_span, read_head
from fusepkg.model.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusepkg.fetch.cache_tier import CacheTier
    from fusepkg.fetch.flight import Flight
    from fusepkg.fetch.pipeline import FetchPipeline
    from fusepkg.model.physical_key import PhysicalKey

log = logging.getLogger(__name__)

CHUNK_SHARE = 8
"""Once a reader has wanted this part of a chunk's bytes in blocks, the chunk is fetched: it costs one request, and at
most an eighth of its bytes come twice."""

IN_ORDER_BYTES = 256 * 1024
"""Who reads this much without a jump reads on, and gets chunks."""

NEAR_BYTES = 2 * BLOCK_BYTES
"""A read this close to the end of the last one is no jump."""

HASHES_WAIT_S = 5.0
"""How long a read waits for block hashes before it asks for the chunk."""

PARTS_KEPT = 4096
"""Block hashes of chunks in memory, in 4 KiB each; and chunks of which is known how they are read."""

HEADS_KEPT = 256


_Named: TypeAlias = "tuple[Digest, Digest, int]"
"""A root, and the digest and size of the entry that names it: another entry's list proves nothing of this one."""


@dataclass(slots=True)
class _Use:
    """How a chunk is read in blocks."""

    position: int
    in_order: int = 0
    fetched: int = 0


class BlockReads:
    """Parts of chunks, from blocks. ``list_place`` tells where the list with a root lies."""

    def __init__(self, pipeline: FetchPipeline, tier: CacheTier, list_place: Callable[[Digest], PhysicalKey]) -> None:
        self._pipeline = pipeline
        self._tier = tier
        self._list_place = list_place
        self._heads: OrderedDict[_Named, bytes] = OrderedDict()
        self._parts: OrderedDict[Digest, bytes] = OrderedDict()
        self._uses: OrderedDict[tuple[Digest, int], _Use] = OrderedDict()
        self._useless: set[_Named] = set()

    def read_cached(self, entry: Entry, index: int, low: int, high: int) -> bytes | None:
        """Return bytes ``low`` to ``high`` of a chunk if the cache has all blocks of them; no checkpoint."""
        hashes = self._known_part(entry, index)
        if hashes is None:
            return None
        parts = []
        for block in _blocks(low, high):
            data = self._cached(hashes, block, low, high)
            if data is None:
                return None
            parts.append(data)
        return b"".join(parts)

    async def read(self, entry: Entry, index: int, low: int, high: int) -> bytes | None:
        """Return bytes ``low`` to ``high`` of a chunk, verified; None if the chunk is to be fetched instead.

        Raises what fetches raise, for reasons that would stop a fetch of the chunk too.
        """
        root = block_root(entry.meta)
        if root is None or _named(entry, root) in self._useless or not self._is_worth_it(entry, root, index, low, high):
            return None
        hashes = None
        try:
            with trio.move_on_after(HASHES_WAIT_S):
                hashes = await self._part(entry, root, index)
            return None if hashes is None else await self._fetch(entry, root, index, hashes, low, high)
        except (ObjectMissing, DigestMismatch) as exc:
            self._give_up(entry, root, exc)
            return None

    # --- which way ---------------------------------------------------------------------------------------------

    def _is_worth_it(self, entry: Entry, root: Digest, index: int, low: int, high: int) -> bool:
        size = chunk_size(entry.size)
        chunk_bytes = min(size, entry.size - index * size)
        use = self._uses.setdefault((root, index), _Use(low))
        self._uses.move_to_end((root, index))
        if len(self._uses) > PARTS_KEPT:
            self._uses.popitem(last=False)
        use.in_order = (use.in_order if abs(low - use.position) <= NEAR_BYTES else 0) + high - low
        use.position = high
        room = chunk_bytes // CHUNK_SHARE - use.fetched
        return use.in_order < IN_ORDER_BYTES and room >= len(_blocks(low, high)) * BLOCK_BYTES

    def _give_up(self, entry: Entry, root: Digest, exc: FusepkgError) -> None:
        self._useless.add(_named(entry, root))
        log.info("%s has no usable block hashes, so it is fetched in chunks: %s", entry.logical_key, exc.message)

    # --- hashes ------------------------------------------------------------------------------------------------

    def _known_part(self, entry: Entry, index: int) -> bytes | None:
        """Return the hashes of a chunk's blocks if this machine has them."""
        root = block_root(entry.meta)
        if root is None or _named(entry, root) in self._useless:
            return None
        part_hashes = self._heads.get(_named(entry, root))
        if part_hashes is None:
            head = self._tier.get(root)
            if head is None or not self._remember_head(entry, root, head):
                return None
            part_hashes = self._heads[_named(entry, root)]
        return self._take_part(nth_digest(part_hashes, index))

    async def _part(self, entry: Entry, root: Digest, index: int) -> bytes | None:
        """Return the hashes of a chunk's blocks, fetched now if need be. Raises ObjectMissing, DigestMismatch."""
        known = self._known_part(entry, index)
        if known is not None or _named(entry, root) in self._useless:
            return known
        size = list_bytes(entry.size)
        stands_for_list = Entry(f"block hashes of {entry.logical_key}", self._list_place(root), size, root)
        try:
            if _named(entry, root) not in self._heads:
                head = Piece(Kind.HASHES, stands_for_list, root, 0, head_bytes(entry.size))
                if not self._remember_head(entry, root, await self._pipeline.want(head).wait()):
                    return None
            name = nth_digest(self._heads[_named(entry, root)], index)
            part = Piece(Kind.HASHES, stands_for_list, name, *part_span(entry.size, index))
            return self._remember_part(name, await self._pipeline.want(part).wait())
        except FusepkgError as exc:
            if not is_transient(exc):
                self._give_up(entry, root, exc)
            return None

    def _remember_head(self, entry: Entry, root: Digest, head: bytes) -> bool:
        part_hashes = read_head(head, entry.digest, entry.size)
        if part_hashes is None or len(part_hashes) != chunk_count(entry.size) * DIGEST_BYTES:
            self._useless.add(_named(entry, root))
            log.warning("%s: its block hashes are those of other bytes, and are not used", entry.logical_key)
            return False
        self._heads[_named(entry, root)] = part_hashes
        if len(self._heads) > HEADS_KEPT:
            self._heads.popitem(last=False)
        return True

    def _take_part(self, name: Digest) -> bytes | None:
        hashes = self._parts.get(name)
        if hashes is None:
            hashes = self._tier.get(name)
        return None if hashes is None else self._remember_part(name, hashes)

    def _remember_part(self, name: Digest, hashes: bytes) -> bytes:
        self._parts[name] = hashes
        self._parts.move_to_end(name)
        if len(self._parts) > PARTS_KEPT:
            self._parts.popitem(last=False)
        return hashes

    # --- blocks ------------------------------------------------------------------------------------------------

    def _cached(self, hashes: bytes, block: int, low: int, high: int) -> bytes | None:
        start = block * BLOCK_BYTES
        first, last = max(low, start) - start, min(high, start + BLOCK_BYTES) - start
        return self._tier.read(nth_digest(hashes, block), first, last - first)

    async def _fetch(self, entry: Entry, root: Digest, index: int, hashes: bytes, low: int, high: int) -> bytes:
        use = self._uses.get((root, index)) or _Use(low)
        flights: list[tuple[int, bytes | None, Flight | None]] = []
        for block in _blocks(low, high):
            found = self._cached(hashes, block, low, high)
            flight = self._pipeline.want(_block_piece(entry, index, hashes, block)) if found is None else None
            use.fetched += BLOCK_BYTES * (flight is not None)
            flights.append((block, found, flight))
        parts = []
        for block, found, flight in flights:
            start = block * BLOCK_BYTES
            data = found if flight is None else (await flight.wait())[max(low - start, 0) : high - start]
            assert data is not None, "what was not found is fetched"
            parts.append(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _named(entry: Entry, root: Digest) -> _Named:
    return root, entry.digest, entry.size


def _blocks(low: int, high: int) -> range:
    return range(low // BLOCK_BYTES, (high - 1) // BLOCK_BYTES + 1)


def _block_piece(entry: Entry, index: int, hashes: bytes, block: int) -> Piece:
    start = index * chunk_size(entry.size) + block * BLOCK_BYTES
    name = Digest(Algorithm.SHA2_256, hashes[block * DIGEST_BYTES : (block + 1) * DIGEST_BYTES])
    return Piece(Kind.PART, entry, name, start, min(BLOCK_BYTES, entry.size - start))
