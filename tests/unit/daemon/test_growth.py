"""When the process of a mount has grown so much that another one should take its place."""

from __future__ import annotations

import os
import resource

import trio
import trio.testing

from fusepkg.daemon.growth import LOOK_S, SETTLED_S, machine_bytes, watch_growth, what_has_grown


def test_memory() -> None:
    assert what_has_grown(machine_bytes()) == ""
    assert "bytes of memory, more than 1,000" in what_has_grown(1000)


def test_descriptors() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_now = len(os.listdir("/proc/self/fd"))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 1, before[1]))
        assert "descriptors open, of" in what_has_grown(machine_bytes())
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        assert what_has_grown(machine_bytes()) == "no descriptor is free"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_young_process_is_left_alone() -> None:
    told: list[float] = []

    async def watch() -> None:
        with trio.move_on_after(SETTLED_S + 1.5 * LOOK_S):
            await watch_growth(1000, lambda _reason: told.append(trio.current_time()))

    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(watch, clock=clock)
    assert len(told) == 2
    assert told[1] - told[0] == LOOK_S
