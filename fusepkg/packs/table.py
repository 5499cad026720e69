"""The table of a version: its packs, in tree order. One small JSON object in the bucket, and nothing in it is believed.

It names packs and the entries that each covers; what a pack then has to be called, and where blobs lie in it, follows
from the manifest. So a table of another version, or a made-up one, is noticed before a byte is asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from fusepkg.errors import PackTableInvalid
from fusepkg.packs.pack import MOST_ENTRIES, EntrySpan

if TYPE_CHECKING:
    from collections.abc import Iterable

FORMAT = 1

MAX_TABLE_BYTES = 16 * 1024 * 1024
"""The largest table that is read: more than 100,000 packs."""

FEWEST_SMALL_ENTRIES = 256
"""A version with fewer entries has no packs, and no table is looked for."""

_NAME = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class PackedSpan:
    """A pack by its name (64 hex digits), and the entries whose small blobs it holds."""

    pack: str
    span: EntrySpan


class _Row(msgspec.Struct, frozen=True):
    pack: str
    first: int
    entries: int


class _Table(msgspec.Struct, frozen=True):
    format: int
    top_hash: str
    packs: list[_Row]


def write_table(top_hash: str, packs: Iterable[PackedSpan]) -> bytes:
    """Return the table of a version as JSON, one line for each pack. Equal packs give equal bytes."""
    rows = [msgspec.json.encode(_Row(packed.pack, *packed.span)) for packed in packs]
    head = b'{"format":%d,"top_hash":"%s","packs":[' % (FORMAT, top_hash.encode())
    return head + b"".join(b"%s\n%s" % (b"," * (at > 0), row) for at, row in enumerate(rows)) + b"\n]}\n"


def read_table(data: bytes, top_hash: str, entries: int) -> list[PackedSpan]:
    """Return the packs of a version that has so many entries. Raises PackTableInvalid."""
    try:
        table = msgspec.json.decode(data, type=_Table)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise PackTableInvalid(f"the table of packs cannot be read: {exc}") from exc
    if table.format != FORMAT:
        raise PackTableInvalid(f"the table of packs has the unknown format {table.format}")
    if table.top_hash != top_hash:
        raise PackTableInvalid(f"the table of packs is of another version, {table.top_hash[:64]!r}")
    end = 0
    for number, row in enumerate(table.packs):
        is_place = row.first >= end and 1 <= row.entries <= MOST_ENTRIES and row.first + row.entries <= entries
        if not is_place or not _NAME.fullmatch(row.pack):
            raise PackTableInvalid(f"pack {number} in the table of packs has an impossible name or place")
        end = row.first + row.entries
    return [PackedSpan(row.pack, EntrySpan(row.first, row.entries)) for row in table.packs]
