"""Small reads of large blobs that have block hashes: how much they fetch, and that no list is believed."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from fusepkg_cache import Cache
from fusepkg_cache.digest import Algorithm, Digest, compute_digest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fusepkg.errors import RemoteUnavailable
from fusepkg.fetch.reader import EntryReader
from fusepkg.model.block_hashes import (
    BLOCK_BYTES,
    block_hashes,
    block_root,
    head_bytes,
    list_bytes,
    part_span,
    with_block_root,
    write_list,
)
from fusepkg.model.entry import Entry
from fusepkg.registry.layout import block_list_key
from fusepkg.store.faulty import Fault, Gate
from tests.unit.fetch.desk import CHUNK, Desk, settled

BYTES = random.Random(8).randbytes(CHUNK + 5 * BLOCK_BYTES + 77)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "cache")


def put_with_blocks(
    desk: Desk, data: bytes = BYTES, key: str = "large", *, puts_list: bool = True
) -> tuple[Entry, Digest, bytes]:
    """Put a blob with its chunk list and its block hashes; give its entry, the root and the list."""
    entry = desk.put(key, data)
    parts = [block_hashes(data[at : at + CHUNK]) for at in range(0, len(data), CHUNK)]
    root, block_list = write_list(entry.digest, len(data), parts)
    desk.put_chunk_list(entry, data)
    if puts_list:
        desk.store.inner.overwrite(block_list_key(root), block_list)
    return replace(entry, meta=with_block_root({}, root)), root, block_list


def data_bytes(source: EntryReader) -> int:
    return source.counters.fetched_bytes


async def test_a_read_of_a_page_fetches_a_block_and_again_nothing(desk: Desk):
    entry, _, _ = put_with_blocks(desk)
    async with desk.source() as source:
        assert await source.read(entry, 5_000_000, 4096) == BYTES[5_000_000:5_004_096]
        assert data_bytes(source) == BLOCK_BYTES
        await settled(source)
        assert source.read_cached(entry, 5_000_000, 4096) == BYTES[5_000_000:5_004_096]
    async with desk.source() as other:  # of another process: the hashes are cached, too
        desk.store.inner.overwrite("large", b"gone")
        assert other.read_cached(entry, 5_000_000, 4096) == BYTES[5_000_000:5_004_096]


async def test_a_read_across_two_chunks_and_to_the_end_of_the_blob(desk: Desk):
    entry, _, _ = put_with_blocks(desk)
    async with desk.source() as source:
        assert await source.read(entry, CHUNK - 100, 200) == BYTES[CHUNK - 100 : CHUNK + 100]
        assert await source.read(entry, len(BYTES) - 5, 100) == BYTES[-5:]


async def test_a_reader_who_goes_on_gets_chunks(desk: Desk):
    entry, _, _ = put_with_blocks(desk)
    async with desk.source() as source:
        for offset in range(0, CHUNK, 128 * 1024):
            assert await source.read(entry, offset, 128 * 1024) == BYTES[offset : offset + 128 * 1024]
            await settled(source)
    assert desk.fetched <= 5, "two blocks, the chunk, and the one after it"


async def test_a_chunk_of_which_much_is_wanted_is_fetched_whole(desk: Desk):
    entry, _, _ = put_with_blocks(desk)
    async with desk.source() as source:
        for block in random.Random(1).sample(range(128), 128):
            offset = block * BLOCK_BYTES
            assert await source.read(entry, offset, 4096) == BYTES[offset : offset + 4096]
            await settled(source)
        assert data_bytes(source) <= CHUNK + CHUNK // 8


async def test_without_a_cache_blocks_are_held_for_their_readers(desk: Desk):
    entry, _, _ = put_with_blocks(desk)
    desk.directory.parent.joinpath("file").write_bytes(b"")
    async with desk.source(lambda: Cache(desk.directory.parent / "file" / "cache")) as source:
        for _ in range(3):
            assert await source.read(entry, 70_000, 10) == BYTES[70_000:70_010]
        assert data_bytes(source) == BLOCK_BYTES


# --- nothing in a list is believed -----------------------------------------------------------------------------


async def reads_right(desk: Desk, entry: Entry) -> EntryReader:
    async with desk.source() as source:
        for offset in (0, 5_000_000, CHUNK - 3, len(BYTES) - 9):
            assert await source.read(entry, offset, 8) == BYTES[offset : offset + 8]
        return source


@pytest.mark.parametrize("held", [None, b"", b"x" * 3000, bytes(list_bytes(len(BYTES)))])
async def test_a_list_that_is_missing_or_something_else_costs_chunks(desk: Desk, held: bytes | None):
    entry, root, _ = put_with_blocks(desk, puts_list=False)
    if held is not None:
        desk.store.inner.overwrite(block_list_key(root), held)
    source = await reads_right(desk, entry)
    assert source.counters.failed_fetches == 0
    assert desk.damaged == []


async def test_a_list_for_other_bytes_under_the_right_key_is_not_believed(desk: Desk):
    """A bucket that swaps object and list together gets an error to the reader, never other bytes."""
    entry, root, _ = put_with_blocks(desk)
    other = bytes(reversed(BYTES))
    parts = [block_hashes(other[at : at + CHUNK]) for at in range(0, len(other), CHUNK)]
    desk.store.inner.overwrite(block_list_key(root), write_list(entry.digest, len(other), parts)[1])
    desk.store.inner.overwrite("large", other)
    async with desk.source() as source:
        with pytest.raises(Exception, match="does not hold"):
            await source.read(entry, 5_000_000, 8)


async def test_a_root_carried_over_from_other_bytes_is_noticed(desk: Desk):
    """Even if the other bytes' blocks are in the cache: the head of a list names its blob."""
    old, old_root, _ = put_with_blocks(desk, bytes(reversed(BYTES)), "old")
    entry, _, _ = put_with_blocks(desk)
    async with desk.source() as source:
        await source.read(old, 5_000_000, 8)
        stale = replace(entry, meta=with_block_root({}, old_root))
        assert await source.read(stale, 5_000_000, 8) == BYTES[5_000_000:5_000_008]


async def test_a_publishers_wrong_hashes_cost_chunks(desk: Desk):
    """Who publishes may name a root of hashes that are not the blob's: the blob's own hash decides."""
    entry, _, _ = put_with_blocks(desk)
    parts = [block_hashes(bytes(CHUNK)), block_hashes(bytes(len(BYTES) - CHUNK))]
    root, block_list = write_list(entry.digest, len(BYTES), parts)
    desk.store.inner.overwrite(block_list_key(root), block_list)
    await reads_right(desk, replace(entry, meta=with_block_root({}, root)))


async def test_a_list_that_does_not_come_is_not_waited_for(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fusepkg.fetch.blocks.HASHES_WAIT_S", 0.01)
    entry, root, _ = put_with_blocks(desk)
    gate = Gate()
    desk.store.plan.append(Fault("get", key=block_list_key(root), gate=gate))
    try:
        async with desk.source(settle=False) as source:
            with trio.fail_after(20):
                assert await source.read(entry, 5_000_000, 8) == BYTES[5_000_000:5_000_008]
    finally:
        gate.open()


SMALL = random.Random(9).randbytes(CHUNK + 3 * BLOCK_BYTES)
SMALL_LIST = list_bytes(len(SMALL))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    damage=st.lists(st.tuples(st.integers(0, SMALL_LIST - 1), st.integers(1, 255)), max_size=3),
    cut=st.integers(0, SMALL_LIST + 40),
    offsets=st.lists(st.integers(0, len(SMALL) - 1), min_size=1, max_size=4),
)
@example(damage=[(8, 1)], cut=SMALL_LIST, offsets=[0])
@example(damage=[(head_bytes(len(SMALL)) + 1, 1)], cut=SMALL_LIST, offsets=[0])
@example(damage=[(part_span(len(SMALL), 1)[0], 7)], cut=SMALL_LIST, offsets=[CHUNK])
def test_whatever_a_list_holds_readers_get_the_bytes_of_the_manifest(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int]], cut: int, offsets: list[int]
):
    desk = Desk(tmp_path_factory.mktemp("blocks") / "cache")
    entry, root, block_list = put_with_blocks(desk, SMALL)
    hostile = bytearray(block_list)
    for at, flip in damage:
        hostile[at] ^= flip
    desk.store.inner.overwrite(block_list_key(root), bytes(hostile).ljust(cut, b"\1")[:cut])

    async def read() -> None:
        async with desk.source() as source:
            for offset in offsets:
                assert await source.read(entry, offset, 4096) == SMALL[offset : offset + 4096]

    trio.run(read)


@settings(max_examples=20)
@given(st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.text(max_size=70)))
def test_whatever_an_entry_names_as_its_root_is_a_root_or_none(own: dict[str, object]):
    for text in [*own.values(), "zz" * 32, " " * 64, "a" * 63]:
        root = block_root({"fusepkg": {**own, "blocks": text}})
        assert root is None or root.hex == str(text).lower()
    assert block_root({"fusepkg": []}) is None


def test_the_list_of_a_blob_has_the_documented_layout():
    digest = compute_digest(Algorithm.SHA2_256_CHUNKED, SMALL)
    parts = [block_hashes(SMALL[:CHUNK]), block_hashes(SMALL[CHUNK:])]
    root, block_list = write_list(digest, len(SMALL), parts)
    assert len(block_list) == list_bytes(len(SMALL)) == 56 + 2 * 32 + 131 * 32
    assert block_list[:8] == b"fspblk1\n"
    assert block_list[8:40] == digest.value
    assert int.from_bytes(block_list[40:48], "little") == len(SMALL)
    start, length = part_span(len(SMALL), 1)
    assert block_list[start : start + length] == parts[1]
    assert root.value == hashlib.sha256(block_list[: 56 + 64]).digest()


# --- parts that are nearly a chunk, and longer ---------------------------------------------------------------


LONG = random.Random(10).randbytes(3 * CHUNK + 40 * BLOCK_BYTES + 5)


async def test_a_long_read_costs_its_own_blocks_and_as_many_requests_as_chunks_would(desk: Desk):
    entry, _, _ = put_with_blocks(desk, LONG)
    first, end = CHUNK // 2 + 10, 2 * CHUNK + CHUNK // 4
    async with desk.source() as source:
        assert await source.read(entry, first, end - first) == LONG[first:end]
        assert data_bytes(source) <= end - first + 2 * BLOCK_BYTES
        assert desk.fetched == 2, "14 MiB, of which a chunk lies in the middle, in two requests"
        assert source.counters.chunk_lists == 2, "the head of the list, and the rest"
        await settled(source)
        assert source.read_cached(entry, first, end - first) == LONG[first:end]


async def test_whole_chunks_within_a_read_come_as_chunks_once_their_list_is_here(desk: Desk):
    entry, _, _ = put_with_blocks(desk, LONG)
    async with desk.source() as source:
        await source.read(entry, 2 * CHUNK, CHUNK)
        await settled(source)
        assert await source.read(entry, CHUNK - 100, CHUNK + 100) == LONG[CHUNK - 100 : 2 * CHUNK]
        assert data_bytes(source) == 2 * CHUNK + BLOCK_BYTES
        assert source.cached_chunks(entry)[0] == 1, "the second chunk comes while its reader waits"


async def test_a_program_that_reads_from_the_start_gets_chunks_at_once(desk: Desk):
    entry, _, _ = put_with_blocks(desk, LONG)
    async with desk.source() as source:
        assert await source.read(entry, 0, 128 * 1024) == LONG[: 128 * 1024]
        assert data_bytes(source) == CHUNK
        assert source.counters.chunk_lists == 1


async def test_blocks_of_zeros_which_all_have_one_name(desk: Desk):
    data = bytes(CHUNK) + LONG[: 2 * BLOCK_BYTES] + bytes(CHUNK // 2)
    entry, _, _ = put_with_blocks(desk, data)
    async with desk.source() as source:
        assert await source.read(entry, 3 * BLOCK_BYTES, CHUNK // 4) == bytes(CHUNK // 4)
        assert (
            await source.read(entry, CHUNK - BLOCK_BYTES, 4 * BLOCK_BYTES)
            == data[CHUNK - BLOCK_BYTES :][: 4 * BLOCK_BYTES]
        )


async def test_readers_of_ranges_that_overlap_share_the_blocks(desk: Desk):
    entry, _, _ = put_with_blocks(desk, LONG)
    spans = [(CHUNK + at * BLOCK_BYTES, 20 * BLOCK_BYTES) for at in (8, 15, 24, 30)]
    found: dict[int, bytes] = {}

    async with desk.source() as source, trio.open_nursery() as nursery:
        for at, length in spans:

            async def read(at: int = at, length: int = length) -> None:
                found[at] = await source.read(entry, at, length)

            nursery.start_soon(read)
    assert found == {at: LONG[at : at + length] for at, length in spans}
    assert data_bytes(source) == 42 * BLOCK_BYTES


@pytest.mark.parametrize("spoilt", ["list", "object"])
async def test_a_range_of_wrong_blocks_is_fetched_as_a_chunk_and_not_block_by_block(desk: Desk, spoilt: str):
    entry, root, block_list = put_with_blocks(desk, LONG)
    if spoilt == "list":
        parts = [block_hashes(bytes(min(CHUNK, len(LONG) - at))) for at in range(0, len(LONG), CHUNK)]
        root, block_list = write_list(entry.digest, len(LONG), parts)
        desk.store.inner.overwrite(block_list_key(root), block_list)
        entry = replace(entry, meta=with_block_root({}, root))
    else:
        desk.store.plan.append(Fault("get", key="large", error=RemoteUnavailable("away for a moment")))
    async with desk.source() as source:
        assert await source.read(entry, CHUNK + 70_000, 2_000_000) == LONG[CHUNK + 70_000 : CHUNK + 2_070_000]
    assert desk.fetched == 2, "the range, and the chunk"


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reads=st.lists(st.tuples(st.integers(0, len(LONG) - 1), st.integers(1, 2 * CHUNK)), min_size=1, max_size=5))
def test_any_reads_are_the_bytes_of_the_blob(tmp_path_factory: pytest.TempPathFactory, reads: list[tuple[int, int]]):
    desk = Desk(tmp_path_factory.mktemp("long") / "cache")
    entry, _, _ = put_with_blocks(desk, LONG)

    async def read() -> None:
        async with desk.source() as source:
            for offset, length in reads:
                assert await source.read(entry, offset, length) == LONG[offset : offset + length]

    trio.run(read)
