from __future__ import annotations

import threading

import pytest

from fusepkg.errors import AccessDenied, ObjectMissing, RemoteUnavailable
from fusepkg.store.faulty import Fault, FaultyStore, Gate, flip, truncate
from fusepkg.store.memory import MemoryStore


@pytest.fixture
def store() -> FaultyStore:
    inner = MemoryStore()
    inner.create("a", b"0123456789")
    inner.create("b", b"b")
    return FaultyStore(inner)


def test_an_error_for_some_calls(store: FaultyStore) -> None:
    store.add(Fault("get", key="a", skip=1, times=2, error=RemoteUnavailable("down")))
    assert store.get("a") == b"0123456789"
    assert store.get("b") == b"b"
    for _ in range(2):
        with pytest.raises(RemoteUnavailable, match="down"):
            store.get("a")
    assert store.get("a") == b"0123456789"
    assert store.calls == [("get", "a"), ("get", "b"), ("get", "a"), ("get", "a"), ("get", "a")]
    assert store.count("get", "a") == 4
    assert store.count("get") == 5
    assert store.count("head") == 0


def test_errors_for_ever_until_healed(store: FaultyStore) -> None:
    for call in ("get", "head", "list", "stream", "create", "overwrite"):
        store.add(Fault(call, times=None, error=AccessDenied("no")))  # type: ignore[arg-type]
    for _ in range(2):
        for attempt in (
            lambda: store.get("a"),
            lambda: store.head("a"),
            lambda: list(store.list("")),
            lambda: list(store.stream("a", piece_bytes=3)),
            lambda: store.create("c", b""),
            lambda: store.overwrite("a", b""),
        ):
            with pytest.raises(AccessDenied):
                attempt()
    store.heal()
    assert store.get("a") == b"0123456789"
    with pytest.raises(ObjectMissing):
        store.get("c")


def test_wrong_bytes(store: FaultyStore) -> None:
    store.add(Fault("get", spoil=flip(0)), Fault("get", spoil=truncate(3)), Fault("stream", spoil=truncate(5)))
    assert store.get("a") == b"\xcf123456789"
    assert store.get("a") == b"012"
    assert list(store.stream("a", piece_bytes=2)) == [b"01", b"23", b"4"]


def test_an_answer_that_is_lost(store: FaultyStore) -> None:
    store.add(Fault("create", error=RemoteUnavailable("lost"), afterwards=True))
    with pytest.raises(RemoteUnavailable):
        store.create("new", b"there")
    assert store.get("new") == b"there"


def test_a_stream_that_breaks(store: FaultyStore) -> None:
    store.add(Fault("stream", error=RemoteUnavailable("broke"), afterwards=True))
    stream = store.stream("a", piece_bytes=4)
    assert next(stream) == b"0123"
    with pytest.raises(RemoteUnavailable):
        next(stream)


def test_a_gate_holds_calls_until_it_is_opened(store: FaultyStore) -> None:
    gate = Gate()
    store.add(Fault("get", times=2, gate=gate))
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(store.get("a"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    gate.wait_reached(2)
    assert found == []
    assert store.get("a") == b"0123456789"  # the third passes
    gate.open()
    for thread in threads:
        thread.join()
    assert found == [b"0123456789"] * 2
