"""The unit that is fetched, verified and kept: a small blob, a chunk, a chunk list, or a large blob as a whole."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from fusepkg_cache.digest import DIGEST_BYTES, chunk_count, chunk_size

from fusepkg.fetch.chunks import nth_digest
from fusepkg.model.cache_names import cache_name, list_digest

if TYPE_CHECKING:
    from fusepkg_cache.digest import Digest

    from fusepkg.model.entry import Entry
    from fusepkg.model.physical_key import PhysicalKey


class Kind(enum.Enum):
    """How a piece is fetched."""

    PART = "part"
    """One GET into memory: a blob of one chunk, or one chunk."""
    RANGE = "range"
    """One GET into memory: part of a pack, with many small blobs in it, or blocks that lie side by side."""
    LIST = "list"
    """From the registry: the raw hashes of a large blob's chunks."""
    HASHES = "hashes"
    """One GET into memory, from the registry: part of a list of block hashes. Without it chunks are fetched."""
    WHOLE = "whole"
    """Streamed into the cache: a large blob that has no chunk list, so only its last byte proves the first."""
    FILE = "file"
    """The same, streamed into a temporary file, because the cache does not keep it."""

    __hash__ = object.__hash__  # there is one of each; that of Enum runs Python code


PieceKey: TypeAlias = "tuple[Kind, Digest, PhysicalKey]"


@dataclass(frozen=True, slots=True)
class Piece:
    """``length`` bytes of an entry's object from ``offset``; they hash to ``name``, and the cache knows them by it."""

    kind: Kind
    entry: Entry
    name: Digest
    offset: int
    length: int

    @property
    def is_streamed(self) -> bool:
        """Whether the bytes never are in memory as a whole."""
        return self.kind in (Kind.WHOLE, Kind.FILE)

    @property
    def is_optional(self) -> bool:
        """Whether a read goes on by another way if the piece cannot be had."""
        return self.kind in (Kind.RANGE, Kind.HASHES)

    @property
    def key(self) -> PieceKey:
        """What one fetch is shared by: the bytes, and the object they come from."""
        return self.kind, self.name, self.entry.physical_key


def blob_piece(entry: Entry) -> Piece:
    """Return a blob of one chunk."""
    return Piece(Kind.PART, entry, cache_name(entry), 0, entry.size)


def chunk_piece(entry: Entry, chunk_list: bytes, index: int) -> Piece:
    """Return one chunk of a large blob."""
    start = index * chunk_size(entry.size)
    length = min(chunk_size(entry.size), entry.size - start)
    return Piece(Kind.PART, entry, nth_digest(chunk_list, index), start, length)


def list_piece(entry: Entry) -> Piece | None:
    """Return the chunk list of a large blob; None if its checksum is no hash of chunks."""
    name = list_digest(entry)
    return None if name is None else Piece(Kind.LIST, entry, name, 0, chunk_count(entry.size) * DIGEST_BYTES)


def whole_piece(entry: Entry, *, in_cache: bool) -> Piece:
    """Return a large blob as one piece, which the cache keeps, or else a temporary file."""
    return Piece(Kind.WHOLE if in_cache else Kind.FILE, entry, cache_name(entry), 0, entry.size)
