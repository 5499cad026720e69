"""Parts of chunks of large blobs whose publisher wrote block hashes: blocks of 64 KiB instead of chunks of 8 MiB.

The list of block hashes lies in the bucket and is not believed: what vouches for it is in the entry, and so covered by
the top hash (``model.block_hashes``). Where it cannot be had, is wrong, or does not come soon, chunks are fetched.
Blocks that lie side by side come in one request.

All methods run on one trio thread.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import trio
from fusepkg_cache.digest import DIGEST_BYTES, MIN_CHUNK_BYTES, Algorithm, Digest, chunk_count, chunk_size

from fusepkg.errors import DigestMismatch, FusepkgError, ObjectMissing
from fusepkg.fetch.block_choice import BlockChoice
from fusepkg.fetch.chunks import nth_digest
from fusepkg.fetch.piece import Kind, Piece
from fusepkg.fetch.retries import is_transient
from fusepkg.model.block_hashes import BLOCK_BYTES, block_root, blocks_of, head_bytes, list_bytes, part_span, read_head
from fusepkg.model.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fusepkg.fetch.cache_tier import CacheTier
    from fusepkg.fetch.chunks import Span
    from fusepkg.fetch.flight import Flight
    from fusepkg.fetch.pipeline import FetchPipeline
    from fusepkg.model.physical_key import PhysicalKey

log = logging.getLogger(__name__)

HASHES_WAIT_S = 5.0
"""How long a read waits for block hashes before it asks for the chunk."""

PARTS_KEPT = 4096
"""Block hashes of chunks in memory, in 4 KiB each."""

HEADS_KEPT = 256

LIST_AT_ONCE_BYTES = 256 * 1024
"""A list up to this size, of a blob up to 512 MiB, is fetched in two requests: its head, and all the rest."""

RANGE_BYTES = MIN_CHUNK_BYTES
"""Most bytes of blocks that one request asks for: as many as for a chunk."""


_Named: TypeAlias = "tuple[Digest, Digest, int]"
"""A root, and the digest and size of the entry that names it: another entry's list proves nothing of this one."""


class _Block(NamedTuple):
    """One block of a read: of which chunk, which of it, and the bytes if they are here."""

    span: Span
    number: int
    piece: Piece
    found: bytes | None

    def cut(self, data: bytes) -> bytes:
        """Return what the read wants of the block's bytes."""
        start = self.number * BLOCK_BYTES
        return data[max(self.span.low - start, 0) : self.span.high - start]


class BlockReads:
    """Parts of chunks, from blocks. ``list_place`` tells where the list with a root lies."""

    def __init__(self, pipeline: FetchPipeline, tier: CacheTier, list_place: Callable[[Digest], PhysicalKey]) -> None:
        self._pipeline = pipeline
        self._tier = tier
        self._list_place = list_place
        self._choice = BlockChoice()
        self._heads: OrderedDict[_Named, bytes] = OrderedDict()
        self._parts: OrderedDict[Digest, bytes] = OrderedDict()
        self._useless: set[_Named] = set()

    def read_cached(self, entry: Entry, span: Span) -> bytes | None:
        """Return the bytes of a span if the cache has all blocks of them; no checkpoint."""
        hashes = self._known_part(entry, span.chunk)
        if hashes is None:
            return None
        parts = []
        for block in blocks_of(span.low, span.high):
            data = self._cached(hashes, block, span)
            if data is None:
                return None
            parts.append(data)
        return b"".join(parts)

    def choose(self, entry: Entry, spans: Sequence[Span], *, has_chunk_list: bool) -> list[Span]:
        """Return those spans of one read that are better read by blocks than by chunks."""
        root = block_root(entry.meta)
        if root is None or _named(entry, root) in self._useless:
            return []
        return self._choice.choose(entry, root, spans, has_chunk_list=has_chunk_list)

    async def read(self, entry: Entry, spans: Sequence[Span]) -> dict[int, bytes]:
        """Return the bytes of spans of one read, verified, by chunk; those left out are to be read by chunks.

        Raises what fetches raise, for reasons that would stop a fetch of the chunk too.
        """
        root = block_root(entry.meta)
        if root is None or not spans:
            return {}
        hashes: dict[int, bytes] = {}
        try:
            with trio.move_on_after(HASHES_WAIT_S):
                hashes = await self._hashes(entry, root, [span.chunk for span in spans])
            return await self._fetch(entry, root, [span for span in spans if span.chunk in hashes], hashes)
        except (ObjectMissing, DigestMismatch) as exc:
            self._give_up(entry, root, exc.message)
            return {}

    def _give_up(self, entry: Entry, root: Digest, reason: str) -> None:
        self._useless.add(_named(entry, root))
        log.info("%s has no usable block hashes, so it is fetched in chunks: %s", entry.logical_key, reason)

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

    async def _hashes(self, entry: Entry, root: Digest, indexes: Sequence[int]) -> dict[int, bytes]:
        """Return the hashes of chunks' blocks, fetched now if need be; without those that cannot be had.

        Raises ObjectMissing, DigestMismatch.
        """
        known = {index: self._known_part(entry, index) for index in indexes}
        missing = [index for index, hashes in known.items() if hashes is None]
        if missing and _named(entry, root) not in self._useless:
            try:
                if await self._has_head(entry, root):
                    await self._fetch_parts(entry, root, missing)
            except FusepkgError as exc:
                if not is_transient(exc):
                    self._give_up(entry, root, exc.message)
            known |= {index: self._known_part(entry, index) for index in missing}
        return {index: hashes for index, hashes in known.items() if hashes is not None}

    async def _has_head(self, entry: Entry, root: Digest) -> bool:
        if _named(entry, root) in self._heads:
            return True
        head = Piece(Kind.HASHES, self._list_entry(entry, root), root, 0, head_bytes(entry.size))
        return self._remember_head(entry, root, await self._pipeline.want(head).wait())

    async def _fetch_parts(self, entry: Entry, root: Digest, missing: Sequence[int]) -> None:
        names = self._heads[_named(entry, root)]
        stands_for_list = self._list_entry(entry, root)
        near = range(min(missing), max(missing) + 1)
        wanted = range(chunk_count(entry.size)) if list_bytes(entry.size) <= LIST_AT_ONCE_BYTES else near
        pieces = [
            Piece(Kind.HASHES, stands_for_list, nth_digest(names, index), *part_span(entry.size, index))
            for index in wanted
        ]
        flights = dict(zip(wanted, self._want(pieces, entry, root), strict=True))
        for index in missing:
            self._remember_part(nth_digest(names, index), await flights[index].wait())

    def _list_entry(self, entry: Entry, root: Digest) -> Entry:
        return Entry(f"block hashes of {entry.logical_key}", self._list_place(root), list_bytes(entry.size), root)

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

    def _cached(self, hashes: bytes, block: int, span: Span) -> bytes | None:
        start = block * BLOCK_BYTES
        first, last = max(span.low, start) - start, min(span.high, start + BLOCK_BYTES) - start
        return self._tier.read(nth_digest(hashes, block), first, last - first)

    async def _fetch(
        self, entry: Entry, root: Digest, spans: Sequence[Span], hashes: dict[int, bytes]
    ) -> dict[int, bytes]:
        blocks = [
            _Block(
                span,
                number,
                _block_piece(entry, span.chunk, hashes[span.chunk], number),
                self._cached(hashes[span.chunk], number, span),
            )
            for span in spans
            for number in blocks_of(span.low, span.high)
        ]
        missing = [block for block in blocks if block.found is None]
        for block in missing:
            if not self._pipeline.is_wanted(block.piece):
                self._choice.note_fetch(root, block.span.chunk, block.piece.offset, block.piece.length)
        flights = iter(self._want([block.piece for block in missing], entry, root))
        parts: dict[int, list[bytes]] = {span.chunk: [] for span in spans}
        for block in blocks:
            data = block.found if block.found is not None else await _landed(next(flights))
            if data is None:
                parts.pop(block.span.chunk, None)
            elif block.span.chunk in parts:
                parts[block.span.chunk].append(data if block.found is not None else block.cut(data))
        return {index: some[0] if len(some) == 1 else b"".join(some) for index, some in parts.items()}

    def _want(self, pieces: Sequence[Piece], entry: Entry, root: Digest) -> list[Flight]:
        """Return the flights of pieces of one object, in order; what lies side by side comes in one request."""
        for run in _runs([piece for piece in pieces if not self._pipeline.is_wanted(piece)]):
            first = run[0]
            length = run[-1].offset + run[-1].length - first.offset
            # A range has the name of a piece in it. Blocks of zeros share theirs, so others may have it already.
            ranges = (Piece(Kind.RANGE, first.entry, piece.name, first.offset, length) for piece in run)
            whole = next((one for one in ranges if not self._pipeline.is_wanted(one)), None)
            if len(run) > 1 and whole is not None:
                starts = [(piece, piece.offset - first.offset) for piece in run]
                self._pipeline.want_range(whole, starts, partial(self._give_up, entry, root))
        return [self._pipeline.want(piece, background=self._pipeline.is_wanted(piece)) for piece in pieces]


async def _landed(flight: Flight) -> bytes | None:
    """Return the bytes of a block; None if those it was to come with could not be had. Raises what fetches raise."""
    try:
        return await flight.wait()
    except FusepkgError as exc:
        if flight.background and is_transient(exc):
            return None
        raise


def _runs(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Yield pieces that lie side by side together, as many as one request may ask for."""
    run: list[Piece] = []
    for piece in pieces:
        is_next = bool(run) and run[-1].offset + run[-1].length == piece.offset
        if not is_next or piece.offset + piece.length - run[0].offset > RANGE_BYTES:
            if run:
                yield run
            run = []
        run.append(piece)
    if run:
        yield run


def _named(entry: Entry, root: Digest) -> _Named:
    return root, entry.digest, entry.size


def _block_piece(entry: Entry, index: int, hashes: bytes, block: int) -> Piece:
    start = index * chunk_size(entry.size) + block * BLOCK_BYTES
    name = Digest(Algorithm.SHA2_256, hashes[block * DIGEST_BYTES : (block + 1) * DIGEST_BYTES])
    return Piece(Kind.PART, entry, name, start, min(BLOCK_BYTES, entry.size - start))
