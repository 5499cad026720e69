"""Reading from packs: what pays is fetched together, what is damaged is read from the objects, all of it is right."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from fusepkg_cache.digest import verified
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusepkg.errors import AccessDenied, FusepkgError, ObjectMissing, RemoteUnavailable
from fusepkg.fetch.packs import MISSES_BEFORE
from fusepkg.fetch.reader import EntryReader
from fusepkg.packs.pack import EntrySpan, pack_of, segment_of
from fusepkg.packs.table import PackedSpan, write_table
from fusepkg.registry.layout import pack_key, pack_table_key
from fusepkg.store.faulty import Fault, Gate
from tests.unit.fetch.desk import settled
from tests.unit.fetch.packed import PackedDesk


@pytest.fixture(autouse=True)
def _small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several packs for little data."""
    monkeypatch.setattr("fusepkg.packs.pack.LEAST_BYTES", 200_000)
    monkeypatch.setattr("fusepkg.packs.pack.MEAN_FURTHER_BYTES", 200_000)


@pytest.fixture
def desk(tmp_path: Path) -> PackedDesk:
    return PackedDesk.make(tmp_path)


async def read_all(desk: PackedDesk, source: EntryReader, order: list[int], *, readers: int = 8) -> None:
    waiting = iter(order)

    async def read() -> None:
        for number in waiting:
            await desk.read(source, number)

    async with trio.open_nursery() as nursery:
        for _ in range(readers):
            nursery.start_soon(read)


# --- what is fetched ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("readers", [1, 8])
async def test_a_walk_in_order_takes_few_requests(desk: PackedDesk, readers: int):
    async with desk.packed_source() as source:
        await read_all(desk, source, list(range(desk.files)), readers=readers)
        assert len(desk.store.calls) < 40 + 2 * readers
        assert source.counters.fetched_bytes < 1.2 * desk.files * desk.size


async def test_all_files_in_any_order_take_few_requests(desk: PackedDesk):
    order = list(range(desk.files))
    random.Random(1).shuffle(order)
    async with desk.packed_source() as source:
        await read_all(desk, source, order)
        assert len(desk.store.calls) < desk.files // 6
        assert source.counters.fetched_bytes < 1.5 * desk.files * desk.size


async def test_reads_here_and_there_fetch_at_most_eight_times_what_they_need(tmp_path: Path):
    """One file in a hundred, counted at the store."""
    desk = PackedDesk.make(tmp_path, files=3_000)
    order = random.Random(2).sample(range(desk.files), desk.files // 100)
    sent: list[int] = []
    get = desk.store.inner.get

    def counted(key: str, **options: object) -> bytes:
        data = get(key, **options)
        sent.append(len(data))
        return data

    desk.store.inner.get = counted  # type: ignore[method-assign]
    async with desk.packed_source() as source:
        sent.clear()
        await read_all(desk, source, order, readers=1)
    needed = len(order) * desk.size
    assert sum(sent) <= 8 * needed
    assert len(sent) <= len(order)
    counters = source.counters
    assert counters.fetched_bytes == sum(sent)
    assert counters.ahead_bytes - counters.ahead_read_bytes == pytest.approx(sum(sent) - needed, rel=0.1)


async def test_the_table_is_asked_for_when_several_files_were_read(desk: PackedDesk):
    desk.versions = [desk.version()]
    async with desk.source() as source:
        for number in range(MISSES_BEFORE - 1):
            await desk.read(source, number)
            await settled(source)
        assert len(desk.store.calls) == MISSES_BEFORE - 1
        await desk.read(source, MISSES_BEFORE)
        await settled(source)
        assert ("get", pack_table_key(desk.index.top_hash)) in desk.store.calls
        await read_all(desk, source, list(range(desk.files)))
        assert desk.ranges > 3


async def test_a_blob_within_a_range_under_way_is_not_asked_for_again(desk: PackedDesk):
    gate = Gate()
    async with desk.packed_source() as source, trio.open_nursery() as readers:
        await desk.read(source, 0)
        for key in desk.packs:
            desk.store.add(Fault("get", key=key, gate=gate, times=None))
        for number in (1, 2, 3):
            if number not in _here(desk, source):
                readers.start_soon(desk.read, source, number)
        await trio.testing.wait_all_tasks_blocked()
        gate.open()
    single = [key for _, key in desk.store.calls if not key.startswith(".quilt/")]
    assert len(single) <= 1


def _here(desk: PackedDesk, source: EntryReader) -> set[int]:
    assert source.cache is not None
    return {number for number, entry in enumerate(desk.entries[:10]) if entry.digest in source.cache}


async def test_what_a_range_brings_is_kept_for_other_processes(desk: PackedDesk):
    async with desk.packed_source() as source:
        await read_all(desk, source, list(range(desk.files)))
    desk.store.calls.clear()
    desk.versions = []
    async with desk.source() as other:
        await read_all(desk, other, list(range(desk.files)))
    assert desk.store.calls == []


async def test_two_processes_that_walk_the_same_way_fetch_once(desk: PackedDesk):
    async with desk.packed_source() as one, desk.packed_source() as other, trio.open_nursery() as nursery:
        for source in (one, other):
            nursery.start_soon(read_all, desk, source, list(range(desk.files)))
    ranges = [key for _, key in desk.store.calls if key.startswith(".quilt/packs/data/")]
    singles = [key for _, key in desk.store.calls if not key.startswith(".quilt/")]
    assert len(singles) + len(ranges) < 120


# --- damage ------------------------------------------------------------------------------------------------------


def spoil_all(desk: PackedDesk, change: Callable[[bytes], bytes]) -> None:
    for key in desk.packs:
        desk.store.inner.overwrite(key, change(desk.store.inner.get(key)))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_at_any_place_gives_right_bytes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    """Bytes are changed, cut out, put in or swapped in packs: what is wrong is read from the objects."""
    desk = PackedDesk.make(tmp_path_factory.mktemp("desk"), files=300)
    for key in desk.packs:
        pack = bytearray(desk.store.inner.get(key))
        at = data.draw(st.integers(0, len(pack) - 1))
        length = data.draw(st.integers(1, 5_000))
        change = data.draw(st.sampled_from(["flip", "cut", "drop", "insert"]))
        if change == "flip":
            pack[at] ^= 0xFF
        elif change == "cut":
            del pack[at:]
        elif change == "drop":
            del pack[at : at + length]
        else:
            pack[at:at] = bytes(length)
        desk.store.inner.overwrite(key, bytes(pack))

    async def run() -> None:
        async with desk.packed_source() as source:
            await read_all(desk, source, list(range(desk.files)))

    trio.run(run)


@pytest.mark.parametrize("change", ["gone", "truncated", "reordered", "of another version"])
async def test_bad_packs_cost_one_warning(desk: PackedDesk, caplog: pytest.LogCaptureFixture, change: str):
    keys = desk.packs
    if change == "gone":
        for key in keys:
            desk.store.add(Fault("get", key=key, error=ObjectMissing(key), times=None))
    elif change == "truncated":
        spoil_all(desk, lambda pack: pack[:100])
    elif change == "reordered":
        spoil_all(desk, lambda pack: pack[:8] + pack[3000:] + pack[8:3000])
    else:
        bodies = [desk.store.inner.get(key) for key in keys]
        for key, body in zip(keys, bodies[1:] + bodies[:1], strict=True):
            desk.store.inner.overwrite(key, body)
    with caplog.at_level(logging.WARNING):
        async with desk.packed_source() as source:
            await read_all(desk, source, list(range(desk.files)))
            assert source.counters.failed_fetches == 0
    assert len([record for record in caplog.records if "objects are read instead" in record.message]) == 1
    assert desk.ranges <= 3 * len(keys)
    assert desk.damaged == []  # a pack is no object of the manifest: nothing has to heal it


def row(pack: str, first: int, entries: int) -> dict[str, object]:
    return {"pack": pack, "first": first, "entries": entries}


@pytest.mark.parametrize(
    "packs",
    [
        [row("0" * 64, 0, 10**12)],
        [row("0" * 64, 0, 400), row("1" * 64, 200, 400)],
        [row("0" * 64, 0, 600)],
        [row("0" * 64, number, 1) for number in range(600)],
        "\0" * 100,
    ],
)
async def test_a_table_that_lies_is_not_used(desk: PackedDesk, caplog: pytest.LogCaptureFixture, packs: object):
    """Impossible numbers, overlaps, names of packs that hold something else: no byte of a pack is asked for."""
    table = json.dumps({"format": 1, "top_hash": desk.index.top_hash, "packs": packs})
    desk.store.inner.overwrite(pack_table_key(desk.index.top_hash), table.encode())
    with caplog.at_level(logging.WARNING):
        async with desk.packed_source() as source:
            await read_all(desk, source, list(range(desk.files)))
    assert desk.ranges == 0
    assert len([record for record in caplog.records if "objects are read instead" in record.message]) == 1


async def test_a_huge_table_is_not_read(desk: PackedDesk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fusepkg.registry.packs.MAX_TABLE_BYTES", 100)
    async with desk.packed_source() as source:
        await read_all(desk, source, list(range(20)))
    assert desk.ranges == 0


async def test_a_right_table_with_spans_of_its_own_is_used(desk: PackedDesk):
    """Where packs end is the writer's choice; entries in no span are read from their objects."""
    spans = [EntrySpan(100, 50), EntrySpan(150, 250)]
    packs = [pack_of(desk.entries[span.first : span.first + span.entries]) for span in spans]
    rows = [PackedSpan(pack.name, span) for pack, span in zip(packs, spans, strict=True)]
    desk.store.inner.overwrite(pack_table_key(desk.index.top_hash), write_table(desk.index.top_hash, rows))
    for span, pack in zip(spans, packs, strict=True):
        blobs = (
            verified(entry.digest, desk.contents[entry.logical_key])
            for entry in desk.entries[span.first : span.first + span.entries]
        )
        desk.store.inner.overwrite(pack_key(pack.name), b"".join(segment_of(blobs)))
    async with desk.packed_source() as source:
        await read_all(desk, source, list(range(desk.files)))
    assert {key for _, key in desk.store.calls if key.startswith(".quilt/packs/data/")} == {
        pack_key(pack.name) for pack in packs
    }


@pytest.mark.parametrize("error", [AccessDenied("no"), RemoteUnavailable("down"), ObjectMissing("gone")])
async def test_a_table_that_cannot_be_had_costs_nothing_but_speed(desk: PackedDesk, error: FusepkgError):
    desk.store.add(Fault("get", key=pack_table_key(desk.index.top_hash), error=error, times=None))
    desk.versions = [desk.version()]
    async with desk.source() as source:
        await read_all(desk, source, list(range(desk.files)))
    assert desk.ranges == 0


async def test_a_range_that_fails_for_a_moment_is_no_bad_pack(desk: PackedDesk):
    for key in desk.packs:
        desk.store.add(Fault("get", key=key, error=RemoteUnavailable("down"), times=1))
    async with desk.packed_source() as source:
        await read_all(desk, source, list(range(desk.files)))
        assert source.counters.ahead_read_bytes > desk.files * desk.size // 4


async def test_a_bug_in_fetching_ahead_fails_no_read(
    desk: PackedDesk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    async with desk.packed_source() as source:
        await read_all(desk, source, list(range(20)))
        monkeypatch.setattr("fusepkg.fetch.ahead.Ahead._go_on", lambda _self, _stretch: 1 / 0)
        monkeypatch.setattr("fusepkg.fetch.ahead.Ahead._missed", lambda _self, _entry: 1 / 0)
        await read_all(desk, source, list(range(desk.files)))
    assert "a bug in fusepkg" in caplog.text


# --- without packs -----------------------------------------------------------------------------------------------


async def test_without_packs_the_next_objects_are_fetched_ahead_of_a_reader_in_order(desk: PackedDesk):
    desk.store.add(Fault("get", key=pack_table_key(desk.index.top_hash), error=ObjectMissing("none"), times=None))
    async with desk.packed_source() as source:
        for number in range(100):
            await desk.read(source, number)
            await settled(source)
        assert source.counters.ahead_read_bytes > 60 * desk.size
        assert source.counters.fetched_bytes <= 200 * desk.size


async def test_without_packs_reads_here_and_there_fetch_nothing_else(desk: PackedDesk):
    desk.store.add(Fault("get", key=pack_table_key(desk.index.top_hash), error=ObjectMissing("none"), times=None))
    async with desk.packed_source() as source:
        await read_all(desk, source, random.Random(3).sample(range(desk.files), 60), readers=1)
        assert source.counters.fetched_bytes == 60 * desk.size
