"""An epoch from a bucket that stalls, cuts connections and throttles: it ends, with right bytes, in bounded memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from fusepkg.errors import RemoteUnavailable
from fusepkg.fetch import pipeline, retries
from fusepkg.fetch.held import HELD_BYTES
from fusepkg.model.entry import Entry
from fusepkg.store.faulty import Fault, Gate, truncate
from tests.unit.fetch.desk import CHUNK, LARGE, SMALL, Desk, settled

FILES = 200


async def test_an_epoch_ends_with_right_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pipeline, "AGAIN_S", 0.05)
    monkeypatch.setattr(retries, "FIRST_PAUSE_S", 0.001)
    desk, gate = Desk(tmp_path / "cache", retry_timeout_s=60), Gate()
    files = {f"{number:03}": SMALL + b"%d" % number for number in range(FILES)}
    entries = [desk.put(key, data) for key, data in files.items()]
    large = desk.put_large()
    throttled = RemoteUnavailable("SlowDown")
    for number, key in enumerate(files):
        if number % 2 == 0:
            desk.store.add(Fault("get", key=key, error=throttled))
        elif number % 20 == 1:  # stalled for longer than the epoch takes
            desk.store.add(Fault("get", key=key, gate=gate))
        elif number % 5 == 0:
            desk.store.add(Fault("get", key=key, spoil=truncate(1_000)))
    for _ in range(3):
        desk.store.add(Fault("get", key="large", error=RemoteUnavailable("connection reset")))
    most_held = 0

    async with desk.source() as source:

        async def read(entry: Entry, right: bytes) -> None:
            nonlocal most_held
            for at in range(0, entry.size, CHUNK):
                assert await source.read(entry, at, CHUNK) == right[at : at + CHUNK]
            most_held = max(most_held, source._tier._held.bytes)

        with trio.fail_after(60):
            async with trio.open_nursery() as readers:
                readers.start_soon(read, large, LARGE)
                for entry, right in zip(entries, files.values(), strict=True):
                    readers.start_soon(read, entry, right)
        gate.open()
        await settled(source)
        assert source.counters.failed_fetches == 0
        assert source.under_way == 0
    assert most_held <= HELD_BYTES
