"""What every store's asynchronous reads do: one answer each, what ``get`` gives or raises, and an end to waiting."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from fusepkg.errors import FusepkgError, ObjectMissing, RemoteTimeout, RemoteUnavailable
from fusepkg.store.faulty import Fault, FaultyStore, Gate
from fusepkg.store.memory import MemoryStore
from fusepkg.store.protocol import Wanted
from tests.contract.stores import ODD_KEYS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusepkg.store.protocol import Answers, AsyncReads, ObjectStore
    from tests.contract.stores import Subject

PATIENCE_S = 60.0


class Inbox:
    """Collects answers; fails where two deliveries overlap or a ticket is answered twice."""

    def __init__(self) -> None:
        self.answers: dict[int, bytes | FusepkgError] = {}
        self.deliveries = 0
        self._inside = threading.Lock()
        self._changed = threading.Condition()
        self._wrong: list[str] = []

    def __call__(self, answers: Answers) -> None:
        if not self._inside.acquire(blocking=False):
            self._wrong.append("two deliveries at a time")
            return
        with self._changed:
            self.deliveries += 1
            for ticket, answer in answers:
                if ticket in self.answers:
                    self._wrong.append(f"{ticket} is answered twice")
                self.answers[ticket] = answer
            self._changed.notify_all()
        self._inside.release()

    def wait(self, count: int) -> dict[int, bytes | FusepkgError]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.answers) >= count or self._wrong, PATIENCE_S)
        assert self._wrong == []
        return self.answers


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def reads(store: ObjectStore, inbox: Inbox) -> Iterator[AsyncReads]:
    reads = store.open_reads(inbox)
    yield reads
    reads.close()


def test_every_read_is_answered_with_what_get_gives(store: ObjectStore, reads: AsyncReads, inbox: Inbox) -> None:
    data = os.urandom(50_000)
    store.create("a", data)
    store.create("empty", b"")
    spans = [(0, 50_000), (0, 50_001), (0, 1), (49_999, 1), (49_999, 5), (50_000, 5), (70_000, 5), (17, 0), (3, 40_000)]
    reads.submit([Wanted(number, "a", None, *span) for number, span in enumerate(spans)])
    reads.submit([Wanted(100, "empty", None, 0, 1)])
    answers = inbox.wait(len(spans) + 1)
    expected = {number: data[offset : offset + length] for number, (offset, length) in enumerate(spans)}
    assert answers == {**expected, 100: b""}
    assert {type(answer) for answer in answers.values()} == {bytes}


def test_many_reads_at_once(store: ObjectStore, reads: AsyncReads, inbox: Inbox) -> None:
    names = [f"{number}" for number in range(20)]
    for name in names:
        store.create(name, name.encode() * 1000)
    for first in range(0, 300, 60):
        reads.submit([Wanted(n, names[n % 20], None, 0, 3000) for n in range(first, first + 60)])
    assert inbox.wait(300) == {n: names[n % 20].encode() * 1000 for n in range(300)}


def test_errors_are_those_of_get(store: ObjectStore, reads: AsyncReads, inbox: Inbox) -> None:
    store.create("there", b"x")
    reads.submit([Wanted(1, "missing", None, 0, 5), Wanted(2, "there", "no-such-version", 0, 5)])
    reads.submit([Wanted(3, "there", None, 0, 5)])
    answers = inbox.wait(3)
    assert isinstance(answers[1], ObjectMissing)
    assert "missing" in str(answers[1])
    assert isinstance(answers[2], FusepkgError)
    assert answers[3] == b"x"


def test_odd_keys_and_versions(subject: Subject, reads: AsyncReads, inbox: Inbox) -> None:
    for number, key in enumerate(ODD_KEYS):
        subject.store.create(key, b"%d" % number)
    reads.submit([Wanted(number, key, None, 0, 100) for number, key in enumerate(ODD_KEYS)])
    assert inbox.wait(len(ODD_KEYS)) == {number: b"%d" % number for number in range(len(ODD_KEYS))}
    if subject.versioned:
        first, second = (subject.store.overwrite("v", data).version for data in (b"first", b"second"))
        reads.submit([Wanted(1000, "v", first, 1, 3), Wanted(1001, "v", second, 0, 10)])
        answers = inbox.wait(len(ODD_KEYS) + 2)
        assert (answers[1000], answers[1001]) == (b"irs", b"second")


def test_a_closed_one_delivers_nothing(store: ObjectStore, inbox: Inbox) -> None:
    store.create("a", b"x")
    reads = store.open_reads(inbox)
    reads.submit([Wanted(1, "a", None, 0, 1)])
    inbox.wait(1)
    reads.close()
    reads.close()
    assert inbox.answers == {1: b"x"}


# --- reads that wait -----------------------------------------------------------------------------------------


def test_a_slow_read_holds_up_no_other(inbox: Inbox) -> None:
    gate = Gate()
    store = FaultyStore(MemoryStore(), [Fault("get", key="slow", gate=gate)])
    store.create("slow", b"at last")
    store.create("fast", b"now")
    reads = store.open_reads(inbox)
    reads.submit([Wanted(0, "slow", None, 0, 10), *(Wanted(n, "fast", None, 0, 10) for n in range(1, 100))])
    assert set(inbox.wait(99)) == set(range(1, 100))
    gate.open()
    assert inbox.wait(100)[0] == b"at last"
    reads.close()


def test_cancelled_reads_are_not_answered(inbox: Inbox) -> None:
    gate = Gate()
    store = FaultyStore(MemoryStore(), [Fault("get", key="slow", gate=gate)])
    store.create("slow", b"x")
    store.create("fast", b"y")
    reads = store.open_reads(inbox)
    reads.submit([Wanted(1, "slow", None, 0, 1)])
    gate.wait_reached()
    reads.cancel([1, 77])
    reads.submit([Wanted(1, "fast", None, 0, 1)])  # its ticket is free again
    assert inbox.wait(1) == {1: b"y"}
    gate.open()
    reads.submit([Wanted(2, "slow", None, 0, 1)])
    assert inbox.wait(2) == {1: b"y", 2: b"x"}
    reads.close()


def test_a_read_that_takes_too_long_is_answered_by_a_timeout(inbox: Inbox) -> None:
    gate = Gate()
    store = FaultyStore(MemoryStore(), [Fault("get", key="slow", gate=gate)])
    store.create("slow", b"x")
    reads = store.open_reads(inbox)
    reads.submit([Wanted(1, "slow", None, 0, 1)], timeout_s=0.05)
    assert isinstance(inbox.wait(1)[1], RemoteTimeout)
    gate.open()
    reads.submit([Wanted(2, "slow", None, 0, 1)], timeout_s=PATIENCE_S)
    assert inbox.wait(2)[2] == b"x"
    reads.close()


def test_planned_errors_are_answers(inbox: Inbox) -> None:
    store = FaultyStore(MemoryStore(), [Fault("get", key="a", error=RemoteUnavailable("down"))])
    store.create("a", b"x")
    reads = store.open_reads(inbox)
    reads.submit([Wanted(1, "a", None, 0, 1)])
    assert str(inbox.wait(1)[1]) == "down"
    reads.submit([Wanted(2, "a", None, 0, 1)])
    assert inbox.wait(2)[2] == b"x"
    reads.close()
