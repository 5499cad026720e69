"""Single flight: one fetch for many askers, and what becomes of errors and cancelled askers."""

from __future__ import annotations

from collections.abc import Callable

import trio
from trio.testing import wait_all_tasks_blocked

from fusepkg.errors import RemoteUnavailable
from fusepkg.fetch.flights import Flights


class Fetch:
    """A fetch that lands when told, and counts how often it was started."""

    def __init__(self) -> None:
        self.started = 0
        self.may_land = trio.Event()
        self.error: Exception | None = None

    async def __call__(self, land: Callable[[bytes], None]) -> None:
        self.started += 1
        await self.may_land.wait()
        if self.error is not None:
            raise self.error
        land(b"bytes")


async def test_many_askers_share_one_fetch():
    fetch = Fetch()
    got: list[bytes] = []
    async with trio.open_nursery() as nursery:
        flights: Flights[bytes] = Flights(nursery)

        async def asker() -> None:
            got.append(await flights.join("key", fetch))

        async with trio.open_nursery() as askers:
            for _ in range(20):
                askers.start_soon(asker)
            await wait_all_tasks_blocked()
            assert fetch.started == 1
            fetch.may_land.set()
    assert got == [b"bytes"] * 20
    assert len(flights) == 0


async def test_a_cancelled_asker_fails_nobody_else():
    fetch = Fetch()
    got: list[bytes] = []
    async with trio.open_nursery() as nursery:
        flights: Flights[bytes] = Flights(nursery)

        async def first(scope: trio.CancelScope) -> None:
            with scope:
                await flights.join("key", fetch)

        async def second() -> None:
            got.append(await flights.join("key", fetch))

        async with trio.open_nursery() as askers:
            scope = trio.CancelScope()
            askers.start_soon(first, scope)
            await wait_all_tasks_blocked()
            askers.start_soon(second)
            await wait_all_tasks_blocked()
            scope.cancel()
            await wait_all_tasks_blocked()
            fetch.may_land.set()
    assert scope.cancelled_caught
    assert got == [b"bytes"]


async def test_an_error_reaches_every_asker_and_the_next_one_tries_again():
    fetch = Fetch()
    fetch.error = RemoteUnavailable("down")
    errors: list[Exception] = []
    async with trio.open_nursery() as nursery:
        flights: Flights[bytes] = Flights(nursery)

        async def asker() -> None:
            try:
                await flights.join("key", fetch)
            except RemoteUnavailable as exc:
                errors.append(exc)

        async with trio.open_nursery() as askers:
            for _ in range(3):
                askers.start_soon(asker)
            await wait_all_tasks_blocked()
            fetch.may_land.set()
        assert len(errors) == 3
        fetch.error = None
        assert await flights.join("key", fetch) == b"bytes"
    assert fetch.started == 2


async def test_a_flight_can_be_joined_until_its_bytes_are_kept():
    fetch = Fetch()
    fetch.may_land.set()
    kept = trio.Event()

    async def keep_slowly(land: Callable[[bytes], None]) -> None:
        await fetch(land)
        await kept.wait()

    async with trio.open_nursery() as nursery:
        flights: Flights[bytes] = Flights(nursery)
        assert await flights.join("key", keep_slowly) == b"bytes"
        assert await flights.join("key", keep_slowly) == b"bytes"
        assert fetch.started == 1, "the bytes were on their way into the cache: nobody needs to fetch them again"
        kept.set()
        await wait_all_tasks_blocked()
        await flights.join("key", keep_slowly)
    assert fetch.started == 2


async def test_different_keys_fly_side_by_side():
    one, other = Fetch(), Fetch()
    async with trio.open_nursery() as nursery:
        flights: Flights[bytes] = Flights(nursery)
        nursery.start_soon(flights.join, "one", one)
        nursery.start_soon(flights.join, "other", other)
        await wait_all_tasks_blocked()
        assert (one.started, other.started) == (1, 1)
        one.may_land.set()
        other.may_land.set()
