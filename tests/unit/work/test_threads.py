from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import pytest

from fusepkg.work.threads import StopFlag, run_threads


def test_every_result_is_collected_once() -> None:
    results: list[int] = []
    run_threads(lambda item: item * 2, range(1_000), results.append, threads=4, name="t", stop=StopFlag())
    assert sorted(results) == list(range(0, 2_000, 2))


def test_no_items_no_results() -> None:
    results: list[int] = []
    run_threads(lambda item: item, [], results.append, threads=4, name="t", stop=StopFlag())
    assert results == []


def test_items_are_taken_only_as_they_are_needed() -> None:
    taken = collected = most = 0

    def items():
        nonlocal taken, most
        for number in range(500):
            taken += 1
            most = max(most, taken - collected)
            yield number

    def collect(_: int) -> None:
        nonlocal collected
        collected += 1

    run_threads(lambda item: item, items(), collect, threads=2, name="t", stop=StopFlag())
    assert most <= 2 * 4 + 1


def test_the_first_failure_stops_the_rest_and_is_raised() -> None:
    stop = StopFlag()
    started: list[int] = []

    def work(item: int) -> None:
        stop.check()
        started.append(item)
        if item == 3:
            raise LookupError("three")

    with pytest.raises(LookupError, match="three"):
        run_threads(work, range(10_000), lambda _: None, threads=2, name="t", stop=stop)
    assert len(started) < 100
    with pytest.raises(CancelledError):
        stop.check()


def test_a_failure_of_the_collector_or_the_items_stops_the_threads_too() -> None:
    def fail(_: object) -> None:
        raise LookupError("collect")

    stop = StopFlag()
    with pytest.raises(LookupError, match="collect"):
        run_threads(lambda item: item, range(10), fail, threads=2, name="t", stop=stop)
    with pytest.raises(CancelledError):
        stop.check()


def test_an_interrupt_does_not_wait_for_work_in_flight() -> None:
    stop = StopFlag()
    release = threading.Event()
    ended: list[int] = []

    def work(item: int) -> int:
        if item:
            release.wait(10)  # whoever waits for this work sees it end
            ended.append(item)
        return item

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            run_threads(work, range(4), interrupt, threads=2, name="t", stop=stop)
        assert ended == []
        with pytest.raises(CancelledError):
            stop.check()
    finally:
        release.set()
