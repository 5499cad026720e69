"""A pack: which blobs it holds, what it is called, where each blob lies in it, and its bytes.

A pack is a segment (``fusepkg_cache.segment_format``) of the blobs of entries that follow one another in tree order.
All of it follows from the manifest: the blobs give the name and every offset, so a reader needs no index of a pack, and
believes none.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from fusepkg_cache.digest import compute_digest
from fusepkg_cache.records import key_of
from fusepkg_cache.segment_format import HEADER_BYTES, MAGIC, blob_record, record_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fusepkg_cache.digest import Digest, Verified

BELOW_BYTES = 256 * 1024
"""Blobs smaller than this go into packs: fetching a larger one costs more for its bytes than for its request."""

LEAST_BYTES = 8 * 1024 * 1024
"""A pack ends at the first blob past this whose digest says so ..."""

MEAN_FURTHER_BYTES = 8 * 1024 * 1024
"""... which on average takes so many bytes more ..."""

MOST_BYTES = 64 * 1024 * 1024
"""... and at the latest before it would have more than this."""

LEAST_COUNTED_BYTES = 1024
"""What a blob counts for at least, so that a pack has no more than 65,536 of them."""

MOST_ENTRIES = 128 * 1024
"""The most entries that a pack spans, large ones included: a reader looks at all of them to find the small ones."""

_NAME_PREFIX = b"fusepkg pack 1\n"
_SIZE = struct.Struct("<Q")


class Sized(Protocol):
    """The bytes of an entry, by size and hash."""

    @property
    def size(self) -> int:
        """How many there are."""

    @property
    def digest(self) -> Digest:
        """What they hash to."""


class SizedDigest(NamedTuple):
    """Bytes by size and hash."""

    size: int
    digest: Digest


class EntrySpan(NamedTuple):
    """Entries ``first`` to ``first + entries - 1`` of a version in tree order, whose small blobs are in one pack."""

    first: int
    entries: int


@dataclass(frozen=True, slots=True)
class Member:
    """A blob in a pack: ``size`` bytes from ``offset``."""

    digest: Digest
    size: int
    offset: int

    @property
    def end(self) -> int:
        """Where the next one's record begins, at the earliest."""
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class Pack:
    """The blobs of a pack in order, its name (64 hex digits), and how many bytes it has."""

    name: str
    members: tuple[Member, ...]
    size: int


def is_small(content: Sized) -> bool:
    """Return whether an entry's blob goes into a pack. One with a weak checksum does not: it has no name of its own."""
    return 0 < content.size < BELOW_BYTES and not content.digest.algorithm.weak


def pack_of(contents: Iterable[Sized]) -> Pack:
    """Return the pack of entries in tree order: their small blobs, each once, where it comes first."""
    name = hashlib.sha256(_NAME_PREFIX)
    at = len(MAGIC)
    members: dict[Digest, Member] = {}
    for content in contents:
        digest, size = content.digest, content.size
        if not is_small(content) or digest in members:
            continue
        name.update(key_of(digest) + _SIZE.pack(size))
        members[digest] = Member(digest, size, at + HEADER_BYTES)
        at += record_bytes(size)
    return Pack(name.hexdigest(), tuple(members.values()), at)


def cut(contents: Iterable[Sized]) -> Iterator[EntrySpan]:
    """Divide all entries of a version among packs, by content: where one ends depends on the blobs near by only.

    So a changed file changes the pack that it lies in, and mostly no other.
    """
    first, count, size = 0, 0, 0
    for content in contents:
        counted = max(record_bytes(content.size), LEAST_COUNTED_BYTES) if is_small(content) else 0
        if size + counted > MOST_BYTES or count == MOST_ENTRIES:
            if size:
                yield EntrySpan(first, count)
            first, count, size = first + count, 0, 0
        count += 1
        size += counted
        if counted and size >= LEAST_BYTES and _ends_pack(content.digest, counted):
            yield EntrySpan(first, count)
            first, count, size = first + count, 0, 0
    if size:
        yield EntrySpan(first, count)


def _ends_pack(digest: Digest, counted: int) -> bool:
    return int.from_bytes(digest.value[:8], "big") * MEAN_FURTHER_BYTES < counted << 64


def holds(pack: Pack, data: bytes) -> bool:
    """Return whether these are the bytes of a pack, as far as readers use them."""
    view = memoryview(data)
    return len(data) == pack.size and all(
        member.digest.matches(compute_digest(member.digest.algorithm, view[member.offset : member.end]))
        for member in pack.members
    )


def segment_of(blobs: Iterable[Verified]) -> Iterator[bytes]:
    """Yield the bytes of a pack, whose blobs come in order."""
    yield MAGIC
    for blob in blobs:
        yield b"".join(blob_record(blob.digest, key_of(blob.digest), blob.data))
