"""The bytes of the index file: its header, and pages of entries, each with a sum of its own.

    offset 0          header: xxh3_64 of what follows, then magic and numbers of 8 bytes (see ``IndexHeader``)
    offset 4096       directory: 4 bytes for each slot, the number of the page that has its keys; 2^22 slots, sparse
    offset 16 MiB+4K  pages of 4096 bytes: 64 of head (sum, depth, prefix, count), then 63 entries of 64 bytes

This is extendible hashing: the last ``depth`` bits of a key's hash are its slot. A page has all keys whose hash ends
with the ``depth`` bits of its ``prefix``, so that a reader with an old directory sees that the page is another one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from fusepkg_cache.records import KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE_BYTES = 4096
MAX_DEPTH = 22
DIRECTORY_AT = PAGE_BYTES
PAGES_AT = DIRECTORY_AT + (4 << MAX_DEPTH)

_MAGIC = b"fspkidx2"
_HEADER_SUM = struct.Struct(">Q")

PAGE_HEAD_BYTES = 64
ENTRY_BYTES = 64
ENTRIES_PER_PAGE = (PAGE_BYTES - PAGE_HEAD_BYTES) // ENTRY_BYTES
_PAGE_HEAD = struct.Struct("<III")
_PAGE_HEAD_AT = 8
_ENTRY = struct.Struct(f"<{KEY_BYTES}sB2xIIQI8x")
_USED = struct.Struct("<I")
_USED_AT = KEY_BYTES + 1 + 2 + 4 + 4 + 8

SMALL = 1
LARGE = 2


class IndexEntry(NamedTuple):
    """Where a blob lies, how large it is, and when it was last known to be used (seconds of Unix time).

    A ``SMALL`` blob's record is in ``segment`` at ``offset``. A ``LARGE`` one lies in a file; the record of its block
    sums is there, or not known where ``segment`` is 0.
    """

    key: bytes
    kind: int
    segment: int
    offset: int
    length: int
    used: int


@dataclass(slots=True)
class IndexHeader:
    """What the index says of the whole cache. ``dirty`` while a change is written: totals may be off then.

    ``segment`` is the one that is appended to, the newest, and ``end`` where. ``walked`` is when it was last made sure
    that all files are counted, 0 while the index may lack blobs. ``dead_bytes`` are those of dropped blobs whose
    segment is still there. ``splits`` changes with the directory, ``changes`` with each change.
    """

    secret: int
    depth: int = 0
    dirty: int = 0
    pages: int = 1
    splits: int = 0
    changes: int = 0
    segment: int = 0
    end: int = 0
    walked: int = 0
    dead_bytes: int = 0
    small_bytes: int = 0
    small_blobs: int = 0
    large_bytes: int = 0
    large_blobs: int = 0
    verification_failures: int = 0
    evictions: int = 0
    evicted_bytes: int = 0
    small_hits: int = 0
    large_hits: int = 0
    lower_hits: int = 0
    misses: int = 0

    @property
    def held_bytes(self) -> int:
        """The bytes of all blobs."""
        return self.small_bytes + self.large_bytes

    def packed(self) -> bytes:
        """As it lies in the file."""
        body = _MAGIC + _NUMBERS.pack(*_VALUES(self))
        return _HEADER_SUM.pack(xxhash.xxh3_64_intdigest(body)) + body


_VALUES = attrgetter(*(field.name for field in fields(IndexHeader)))  # astuple copies each, 80 times slower
_NUMBERS = struct.Struct(f"<{len(fields(IndexHeader))}Q")
HEADER_BYTES = _HEADER_SUM.size + len(_MAGIC) + _NUMBERS.size


def parse_header(data: bytes) -> IndexHeader | None:
    """The header in the first bytes of an index; None if it is damaged."""
    body = data[_HEADER_SUM.size : HEADER_BYTES]
    if len(data) < HEADER_BYTES or not body.startswith(_MAGIC):
        return None
    if _HEADER_SUM.pack(xxhash.xxh3_64_intdigest(body)) != data[: _HEADER_SUM.size]:
        return None
    return IndexHeader(*_NUMBERS.unpack_from(body, len(_MAGIC)))


def hash_of(key: bytes, secret: int) -> int:
    """What places a key in the index; others cannot choose keys that meet, for they do not know the secret."""
    return xxhash.xxh3_64_intdigest(key, secret)


def is_sound(page: bytes | bytearray) -> bool:
    """Whether a page has its sum."""
    return len(page) == PAGE_BYTES and xxhash.xxh3_64_digest(memoryview(page)[8:]) == page[:8]


def _sum(page: bytes | bytearray) -> bytes:
    return xxhash.xxh3_64_digest(memoryview(page)[8:])


def sealed(page: bytearray) -> bytearray:
    """The page with its sum."""
    page[:8] = _sum(page)
    return page


def new_page(depth: int, prefix: int, entries: list[bytes]) -> bytearray:
    """A page with these entries, packed."""
    page = bytearray(PAGE_BYTES)
    _PAGE_HEAD.pack_into(page, _PAGE_HEAD_AT, depth, prefix, len(entries))
    packed = b"".join(entries)
    page[PAGE_HEAD_BYTES : PAGE_HEAD_BYTES + len(packed)] = packed
    return page


def page_head(page: bytes | bytearray) -> tuple[int, int, int]:
    """Depth, prefix, and number of entries."""
    depth, prefix, count = _PAGE_HEAD.unpack_from(page, _PAGE_HEAD_AT)
    return depth, prefix, count


def covers(page: bytes | bytearray, hashed: int) -> bool:
    """Whether a key with that hash belongs in this page."""
    depth, prefix, _ = _PAGE_HEAD.unpack_from(page, _PAGE_HEAD_AT)
    return bool(hashed & ((1 << depth) - 1) == prefix)


def place_in(page: bytes | bytearray, key: bytes) -> int:
    """Where a key's entry begins; -1 if there is none."""
    at = page.find(key, PAGE_HEAD_BYTES)
    while at >= 0 and at % ENTRY_BYTES:
        at = page.find(key, at + 1)
    return at


def entry_at(page: bytes | bytearray, at: int) -> IndexEntry:
    """The entry that begins there."""
    return IndexEntry._make(_ENTRY.unpack_from(page, at))


def packed_entries(page: bytes | bytearray) -> list[bytes]:
    """All entries, packed."""
    count = min(page_head(page)[2], ENTRIES_PER_PAGE)
    ends = range(PAGE_HEAD_BYTES, PAGE_HEAD_BYTES + count * ENTRY_BYTES, ENTRY_BYTES)
    return [bytes(page[at : at + ENTRY_BYTES]) for at in ends]


def entries_of(page: bytes | bytearray) -> Iterator[IndexEntry]:
    """All entries."""
    count = min(page_head(page)[2], ENTRIES_PER_PAGE)
    for numbers in _ENTRY.iter_unpack(page[PAGE_HEAD_BYTES : PAGE_HEAD_BYTES + count * ENTRY_BYTES]):
        yield IndexEntry(*numbers)


def put_entry(page: bytearray, at: int, entry: IndexEntry) -> None:
    """Write an entry in place of the one that begins there, or after the last one for -1. The page must have room."""
    depth, prefix, count = page_head(page)
    if at < 0:
        at = PAGE_HEAD_BYTES + count * ENTRY_BYTES
        _PAGE_HEAD.pack_into(page, _PAGE_HEAD_AT, depth, prefix, count + 1)
    _ENTRY.pack_into(page, at, *entry)


def remove_entry(page: bytearray, at: int) -> None:
    """Remove the entry that begins there; the last one takes its place."""
    depth, prefix, count = page_head(page)
    last = PAGE_HEAD_BYTES + (count - 1) * ENTRY_BYTES
    page[at : at + ENTRY_BYTES] = page[last : last + ENTRY_BYTES]
    page[last : last + ENTRY_BYTES] = bytes(ENTRY_BYTES)
    _PAGE_HEAD.pack_into(page, _PAGE_HEAD_AT, depth, prefix, count - 1)


def set_used(page: bytearray, at: int, used: int) -> None:
    """Write when the blob of the entry that begins there was used."""
    _USED.pack_into(page, at + _USED_AT, used)


def is_full(page: bytearray) -> bool:
    """Whether no entry more fits."""
    return page_head(page)[2] >= ENTRIES_PER_PAGE
