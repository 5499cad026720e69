"""The table of a version's packs: what is written is read, and nothing impossible is."""

from __future__ import annotations

import json

import pytest

from fusepkg.errors import PackTableInvalid
from fusepkg.packs.pack import MOST_ENTRIES, EntrySpan
from fusepkg.packs.table import PackedSpan, read_table, write_table

TOP_HASH = "ab" * 32
PACKS = [PackedSpan("1" * 64, EntrySpan(0, 300)), PackedSpan("2" * 64, EntrySpan(500, 100))]


@pytest.mark.parametrize("packs", [[], PACKS[:1], PACKS])
def test_a_table_is_read_as_it_was_written(packs: list[PackedSpan]) -> None:
    written = write_table(TOP_HASH, packs)
    assert read_table(written, TOP_HASH, 600) == packs
    assert len(json.loads(written)["packs"]) == len(packs)


def row(pack: str = "1" * 64, first: object = 0, entries: object = 1) -> dict[str, object]:
    return {"pack": pack, "first": first, "entries": entries}


@pytest.mark.parametrize(
    "rows",
    [
        [row(entries=10**12)],
        [row(entries=MOST_ENTRIES + 1)],
        [row(first=10**6 - 1, entries=2)],
        [row(first=10**12)],
        [row(first=-1)],
        [row(entries=0)],
        [row(entries=2), row(first=1)],
        [row(first=5), row(first=0)],
        [row(pack="../../tags/x")],
        [row(pack="A" * 64)],
        [row(first="0")],
        [row(first=0.5)],
        [{"pack": "1" * 64}],
        "many",
    ],
)
def test_impossible_tables_are_refused(rows: object) -> None:
    """Counts past the version's end, spans that overlap or go back, names that are no hash."""
    table = json.dumps({"format": 1, "top_hash": TOP_HASH, "packs": rows})
    with pytest.raises(PackTableInvalid):
        read_table(table.encode(), TOP_HASH, 10**6)


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xfe", b"[" * 100_000, b"{}", b'{"format": 2, "top_hash": "", "packs": []}']
)
def test_what_is_no_table_is_refused(data: bytes) -> None:
    with pytest.raises(PackTableInvalid):
        read_table(data, TOP_HASH, 600)


def test_the_table_of_another_version_is_refused() -> None:
    with pytest.raises(PackTableInvalid, match="another version"):
        read_table(write_table("cd" * 32, PACKS), TOP_HASH, 600)
