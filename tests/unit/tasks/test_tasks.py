"""Tasks: their records, their leases, and workers that fail, die, freeze and meet each other."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fusepkg.errors import (
    DataUnfit,
    RemoteUnavailable,
    TaskError,
    TaskNotFound,
    TaskStopped,
    UnsupportedFormat,
    UsageError,
)
from fusepkg.registry.layout import TASKS, parse_task_key, task_record_key
from fusepkg.store.faulty import Fault, FaultyStore
from fusepkg.store.memory import MemoryStore
from fusepkg.tasks import lease as leases
from fusepkg.tasks.lease import Watch, claim
from fusepkg.tasks.task import Event, Status, add_record, cancel, list_tasks, make_record, read_task, submit
from fusepkg.tasks.work import MAX_ATTEMPTS, Running, run_all, run_task

LEASE_S = 0.5
"""The shortest there may be."""


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


class Clock:
    """Leases' clock, moved by hand; leases are renewed by real time all the same."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(leases, "_now", clock)
    return clock


def echo(running: Running) -> Any:
    return {"said": running.parameters["say"]}


def test_a_task_is_numbered_read_and_listed(store: MemoryStore) -> None:
    first = submit(store, "echo", {"say": "a"}, about="local/name")
    second = submit(store, "echo", {"say": "b"})
    assert (first.number, second.number) == (1, 2)
    assert read_task(store, 1) == first
    assert (first.status, first.about, first.parameters) == (Status.SUBMITTED, "local/name", {"say": "a"})
    assert [task.number for task in list_tasks(store)] == [2, 1]
    assert [task.number for task in list_tasks(store, limit=1)] == [2]
    with pytest.raises(TaskNotFound, match="has no task 3"):
        read_task(store, 3)
    with pytest.raises(UsageError):
        read_task(store, 0)


def test_keys_are_newest_first_and_parsed() -> None:
    key = task_record_key(1337, 2)
    assert key == ".quilt/tasks/9999998662/9999999997.json"
    assert parse_task_key(key) == (1337, 2)
    assert parse_task_key(key.rpartition("/")[0] + "/") == (1337, None)
    assert parse_task_key(".quilt/tags/a/b/9999999997.json") is None


def test_many_submit_at_once(store: MemoryStore) -> None:
    threads = [threading.Thread(target=submit, args=(store, "echo", {"say": n})) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(task.parameters["say"] for task in list_tasks(store)) == list(range(8))


def test_a_task_is_done_once(store: MemoryStore) -> None:
    submit(store, "echo", {"say": "a"})
    done = run_task(store, 1, {"echo": echo})
    assert (done.status, done.result, done.attempt) == (Status.DONE, {"said": "a"}, 1)
    assert run_task(store, 1, {}) == done


def test_an_error_is_the_result(store: MemoryStore) -> None:
    def fail(running: Running) -> None:
        raise DataUnfit("the video is gone", hint="Add it again")

    def crash(running: Running) -> None:
        raise ValueError("x")

    for kind in ("fail", "crash"):
        submit(store, kind, {})
    assert run_all(store, {"fail": fail, "crash": crash}) == 2
    crashed, failed = list_tasks(store)
    assert (failed.status, failed.code, failed.reason) == (
        Status.ERROR,
        DataUnfit.code,
        "the video is gone. Add it again",
    )
    assert (crashed.status, crashed.reason) == (Status.ERROR, "a bug in fusepkg: ValueError('x')")


def test_a_failure_that_may_pass_is_tried_again(store: MemoryStore) -> None:
    tries: list[int] = []

    def work(running: Running) -> int:
        tries.append(running.task.attempt)
        if len(tries) < 2:
            raise RemoteUnavailable("the bucket is away")
        return len(tries)

    submit(store, "work", {})
    assert run_task(store, 1, {"work": work}, lease_s=LEASE_S).result == 2
    assert tries == [1, 2]


def test_a_task_that_kills_every_worker_fails_at_last(store: MemoryStore, clock: Clock) -> None:
    submit(store, "echo", {"say": "a"})
    watch = Watch()
    for _ in range(MAX_ATTEMPTS):
        lease = claim(store, read_task(store, 1), LEASE_S)
        assert lease is not None
        lease.close()  # the worker dies
        assert watch.wait_s(read_task(store, 1)) > 0
        clock.now += LEASE_S
        assert watch.wait_s(read_task(store, 1)) == 0
    lease = claim(store, read_task(store, 1), LEASE_S)
    assert lease is not None
    lease.end(Event.RELEASED, reason="the machine was switched off")
    task = run_task(store, 1, {"echo": echo})
    assert task.status is Status.ERROR
    assert task.reason == "5 workers began it, and none came to its end; the last one: the machine was switched off"


def test_clocks_of_machines_are_not_compared(store: MemoryStore, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    submit(store, "echo", {"say": "a"})
    lease = claim(store, read_task(store, 1), LEASE_S)
    assert lease is not None
    lease.close()
    monkeypatch.setattr("fusepkg.tasks.task.time_text", lambda _when: "1970-01-01T00:00:00Z")  # a clock far behind
    watch = Watch()
    clock.now += 1e6  # this machine has been up for longer
    assert watch.wait_s(read_task(store, 1)) == LEASE_S
    clock.now += LEASE_S - 0.01
    assert add_record(store, 1, 3, make_record(Event.RENEWED, worker="other", attempt=1, lease_s=LEASE_S))
    assert watch.wait_s(read_task(store, 1)) == LEASE_S  # it has been heard of: the wait begins again


def test_a_frozen_worker_finds_its_task_taken(store: MemoryStore, clock: Clock) -> None:
    submit(store, "echo", {"say": "a"})
    first = claim(store, read_task(store, 1), LEASE_S)
    assert first is not None
    first.close()  # frozen: it renews nothing
    second = claim(store, read_task(store, 1), LEASE_S)
    assert second is not None
    with pytest.raises(TaskStopped, match="has taken it over"):
        first.end(Event.DONE, result="late")
    second.end(Event.DONE, result="in time")
    assert read_task(store, 1).result == "in time"
    clock.now += LEASE_S
    with pytest.raises(TaskStopped, match="could not be renewed"):
        claimed_then_silent(store, clock).check()


def claimed_then_silent(store: MemoryStore, clock: Clock) -> leases.Lease:
    task = submit(store, "echo", {"say": "b"})
    lease = claim(store, task, LEASE_S)
    assert lease is not None
    lease.close()
    clock.now += LEASE_S
    return lease


def test_of_two_workers_one_gets_it(store: MemoryStore) -> None:
    task = submit(store, "echo", {"say": "a"})
    first, second = claim(store, task), claim(store, task)
    assert first is not None
    assert second is None
    first.close()


def test_a_lease_is_renewed_and_tells_progress(store: MemoryStore) -> None:
    def work(running: Running) -> str:
        running.progress("1 of 2")
        while read_task(store, 1).progress != "1 of 2":
            running.check()
            time.sleep(0.01)
        return "seen"

    submit(store, "work", {})
    assert run_task(store, 1, {"work": work}, lease_s=LEASE_S).result == "seen"


def test_cancel(store: MemoryStore) -> None:
    started, stopped = threading.Event(), []

    def work(running: Running) -> None:
        started.set()
        try:
            while True:
                running.check()
                time.sleep(0.01)
        except TaskStopped as exc:
            stopped.append(exc.message)
            raise

    submit(store, "work", {})
    worker = threading.Thread(target=run_task, args=(store, 1, {"work": work}), kwargs={"lease_s": LEASE_S})
    worker.start()
    started.wait()
    assert cancel(store, 1).status is Status.CANCELLED
    worker.join()
    assert "cancelled by" in stopped[0]
    assert cancel(store, 1).status is Status.CANCELLED
    assert run_task(store, 1, {}).status is Status.CANCELLED
    submit(store, "echo", {"say": "a"})
    assert run_task(store, 2, {"echo": echo}).status is Status.DONE
    assert cancel(store, 2).status is Status.DONE


def test_an_interrupted_worker_gives_the_task_back(store: MemoryStore) -> None:
    def interrupt(running: Running) -> None:
        raise KeyboardInterrupt

    submit(store, "work", {})
    with pytest.raises(KeyboardInterrupt):
        run_task(store, 1, {"work": interrupt})
    task = read_task(store, 1)
    assert (task.status, task.attempt, task.reason) == (Status.SUBMITTED, 0, "its worker was interrupted")


def test_lost_answers_and_a_bucket_that_is_away(store: MemoryStore) -> None:
    """Each record is there once, whatever became of the answers to the requests that made it."""
    lost = RemoteUnavailable("the answer was lost")
    faulty = FaultyStore(store)
    submit(store, "echo", {"say": "a"})
    lease = claim(faulty, read_task(faulty, 1), LEASE_S)
    assert lease is not None
    faulty.add(Fault("create", error=lost, afterwards=True), Fault("create", error=lost))
    lease.end(Event.DONE, result="kept")
    task = read_task(store, 1)
    assert (task.status, task.result) == (Status.DONE, "kept")


def test_what_is_no_record(store: MemoryStore) -> None:
    store.create(task_record_key(1, 1), b"{")
    with pytest.raises(UnsupportedFormat, match="is not a record of a task"):
        read_task(store, 1)
    with pytest.raises(TaskError, match="Split it"):
        submit(store, "echo", {"say": "x" * (9 << 20)})
    with pytest.raises(UsageError, match="lease"):
        run_task(store, 1, {}, lease_s=0.1)
    submit(store, "unknown", {})
    with pytest.raises(UsageError, match="of the kind 'unknown', which is none of echo"):
        run_task(store, 2, {"echo": echo})
    assert [info.key.startswith(TASKS) for info in store.list("")] == [True, True]
