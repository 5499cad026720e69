"""Replaying a profile: in few requests, each name once, never far ahead of readers, whatever the profile says."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio

from fusepkg.errors import UnsupportedFormat
from fusepkg.fetch import replay
from fusepkg.fetch.first_reads import FirstReads
from fusepkg.fetch.prefetch import PrefetchProgress
from fusepkg.fetch.reader import EntryReader
from fusepkg.fetch.replay import find_reads
from fusepkg.model.access_profile import (
    FORMAT,
    MAX_READS,
    AccessProfile,
    FirstRead,
    ProfileHeader,
    read_profile,
    write_profile,
)
from tests.unit.fetch.desk import settled
from tests.unit.fetch.packed import PackedDesk

TOP_HASH = "a" * 64


@pytest.fixture
def desk(tmp_path: Path) -> PackedDesk:
    return PackedDesk.make(tmp_path, files=300)


def profile_of(*paths: str) -> AccessProfile:
    header = ProfileHeader(FORMAT, TOP_HASH, 1.0, 1.0, len(paths))
    return read_profile(write_profile(header, [FirstRead(at, path) for at, path in enumerate(paths)]))


async def replayed(desk: PackedDesk, source: EntryReader, *paths: str) -> PrefetchProgress:
    one = source.replay(desk.version(), profile_of(*paths))
    with trio.fail_after(60):
        await one.run()
    return one.progress


async def test_neighbours_come_together_though_they_were_read_shuffled(desk: PackedDesk):
    paths = [entry.logical_key for entry in desk.entries]
    random.Random(0).shuffle(paths)
    async with desk.source() as source:
        progress = await replayed(desk, source, *paths, *paths[:50], "gone", "d00", "../etc", "")
        assert (progress.files, progress.skipped_files, progress.failed_files) == (354, 4, 0)
        assert progress.fetched_bytes == 300 * desk.size
        assert len(desk.store.calls) < 100
        await settled(source)
        desk.store.calls.clear()
        for number in range(300):
            await desk.read(source, number)
        assert desk.store.calls == []


async def test_a_replay_stays_near_its_readers(desk: PackedDesk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(replay, "LEAD_PIECES", 20)
    monkeypatch.setattr(replay, "PAUSE_S", 0.01)
    monkeypatch.setattr(replay, "PATIENCE_S", 0.05)
    async with desk.source() as source:
        progress = await replayed(desk, source, *(entry.logical_key for entry in desk.entries))
        assert progress.is_done
        assert 20 <= progress.files <= 20 + replay.FIRST_WINDOW
        one = source.replay(desk.version(), profile_of(*(entry.logical_key for entry in desk.entries)))
        monkeypatch.setattr(replay, "PATIENCE_S", 60)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.run)
            for number in range(300):
                await desk.read(source, number)
        assert one.progress.files == 300


def test_reads_are_found_in_tree_order(desk: PackedDesk):
    reads = [FirstRead(0, desk.entries[number].logical_key) for number in (250, 3, 299, 4, 0)]
    found, missing = find_reads(desk.index.entries, [*reads, FirstRead(0, "zzz"), FirstRead(0, "d00/", 5)])
    assert [one.number for one in found] == [0, 3, 4, 250, 299]
    assert missing == 2


def test_what_is_recorded_is_what_was_read_first(desk: PackedDesk):
    reads = FirstReads()
    for number in (5, 2, 5, 9):
        reads.note(desk.entries[number], 0, 10)
    reads.end()
    reads.note(desk.entries[0], 0, 10)
    profile = read_profile(reads.document(TOP_HASH))
    assert [read.path for read in profile.reads()] == [desk.entries[number].logical_key for number in (5, 2, 9)]
    assert profile.header.reads == 3


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\n",
        b"[]\n",
        b'{"fusepkg_profile":2,"top_hash":"%s","recorded_s":1,"seconds":1,"reads":0}\n' % (b"a" * 64),
        b'{"fusepkg_profile":1,"top_hash":"\\u001b[2J","recorded_s":1,"seconds":1,"reads":0}\n',
        b'{"fusepkg_profile":1,"top_hash":"%s","recorded_s":1e300,"seconds":1,"reads":0}\n' % (b"a" * 64),
        b'{"fusepkg_profile":1,"top_hash":"%s","recorded_s":1,"seconds":1,"reads":%d}\n' % (b"a" * 64, MAX_READS + 1),
        b'{"fusepkg_profile":1,"top_hash":"%s","recorded_s":1,"seconds":1,"reads":1}\n' % (b"a" * 64),
        b'{"fusepkg_profile":1,"top_hash":"%s","recorded_s":1,"seconds":1,"reads":1}\n{"at":1' % (b"a" * 64),
    ],
)
def test_what_is_no_profile_is_refused(data: bytes):
    with pytest.raises(UnsupportedFormat, match="access profile"):
        read_profile(data)


@pytest.mark.parametrize(
    "line",
    [b'{"at":-1,"path":"x"}', b'{"path":"x"}', b'{"at":1,"path":"\\ud800"}', b'{"at":1,"path":"%s"}' % (b"x" * 20_000)],
)
def test_a_line_that_is_no_read_is_named(line: bytes):
    header = ProfileHeader(FORMAT, TOP_HASH, 1.0, 1.0, 1)
    profile = read_profile(write_profile(header, []) + line + b"\n")
    with pytest.raises(UnsupportedFormat, match="line 2"):
        list(profile.reads())
