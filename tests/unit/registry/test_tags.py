from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from fusepkg.errors import (
    FusepkgError,
    HashNotFound,
    ObjectMissing,
    ObjectTooLarge,
    TagConflict,
    TagNotFound,
    UnsupportedFormat,
)
from fusepkg.registry import layout
from fusepkg.registry.catalogue import list_history, list_tags, newest_version
from fusepkg.registry.tags import (
    MOVE_BYTES,
    TagMove,
    TagState,
    current_moves,
    current_publisher,
    move_tag,
    read_tag,
    roll_back,
    tag_history,
)
from fusepkg.store.faulty import Fault, FaultyStore, Gate
from fusepkg.store.protocol import ObjectStore

A, B, C = "aa" * 32, "bb" * 32, "cc" * 32
NOW = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)


def test_a_tag_that_was_never_moved_is_none(store: ObjectStore) -> None:
    assert read_tag(store, "ns/name", "latest") is None
    assert tag_history(store, "ns/name", "latest") == []
    assert current_moves(store, "ns/name") == []


def test_moves_are_numbered_kept_and_read_back_newest_first(store: ObjectStore) -> None:
    first = move_tag(store, "ns/name", "latest", A, None, message="one", publisher="u@h", now=NOW)
    assert first == TagMove("latest", 1, A, None, "2026-02-03T04:05:06.000Z", "one", "u@h")
    assert read_tag(store, "ns/name", "latest") == first.state == TagState(1, A)
    second = move_tag(store, "ns/name", "latest", B, first.state, publisher="u@h", now=NOW)
    third = move_tag(store, "ns/name", "latest", A, second.state)
    assert tag_history(store, "ns/name", "latest") == [third, second, first]
    assert tag_history(store, "ns/name", "latest", limit=2) == [third, second]
    assert third.publisher == current_publisher()
    assert (third.previous, second.previous, first.previous) == (B, A, None)
    assert read_tag(store, "ns/name", "latest") == TagState(3, A)


def test_the_object_is_readable_without_fusepkg(store: ObjectStore) -> None:
    move_tag(store, "ns/name", "v1", A, None, message="grüße", publisher="u@h", now=NOW)
    content = json.loads(store.get(".quilt/tags/ns%2Fname/v1/9999999998.json"))
    assert content == {
        "hash": A,
        "previous": None,
        "time": "2026-02-03T04:05:06.000Z",
        "message": "grüße",
        "publisher": "u@h",
    }


def test_the_second_of_two_publishers_gets_a_conflict_with_both_hashes(store: ObjectStore) -> None:
    start = move_tag(store, "n", "latest", A, None).state
    theirs = move_tag(store, "n", "latest", B, start, publisher="them@there")
    with pytest.raises(TagConflict) as caught:
        move_tag(store, "n", "latest", C, start)
    assert B in caught.value.message
    assert C in caught.value.message
    assert "them@there" in caught.value.message
    assert caught.value.hint
    assert tag_history(store, "n", "latest", limit=1) == [theirs]


def test_a_new_tag_conflicts_with_one_that_appeared(store: ObjectStore) -> None:
    move_tag(store, "n", "latest", A, None)
    with pytest.raises(TagConflict):
        move_tag(store, "n", "latest", B, None)
    assert read_tag(store, "n", "latest") == TagState(1, A)


def test_a_move_whose_answer_was_lost_counts_once(store: ObjectStore) -> None:
    start = move_tag(store, "n", "latest", A, None).state
    done = move_tag(store, "n", "latest", B, start)
    assert move_tag(store, "n", "latest", B, start) == done
    assert len(tag_history(store, "n", "latest")) == 2


def test_of_many_racing_publishers_exactly_one_moves_the_tag(store: ObjectStore) -> None:
    start = move_tag(store, "n", "latest", A, None).state
    barrier = threading.Barrier(8, timeout=60)

    def publish(number: int) -> bool:
        barrier.wait()
        try:
            move_tag(store, "n", "latest", f"{number:064x}", start)
        except TagConflict:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(publish, range(8))) == 1
    assert len(tag_history(store, "n", "latest")) == 2


def test_a_move_that_seems_gone_for_a_moment_is_waited_for(store: ObjectStore) -> None:
    first = move_tag(store, "n", "latest", A, None)
    flickering = FaultyStore(store, [Fault(call, error=ObjectMissing("gone")) for call in ("get", "head")])
    assert tag_history(flickering, "n", "latest") == [first]
    assert flickering.count("head") == 2


def test_tags_are_listed_with_their_current_move(store: ObjectStore) -> None:
    latest = move_tag(store, "n", "latest", A, None).state
    latest_move = move_tag(store, "n", "latest", B, latest)
    v1 = move_tag(store, "n", "v1", A, None)
    v10 = move_tag(store, "n", "v10", C, None)
    move_tag(store, "nn", "other", C, None)
    assert current_moves(store, "n") == [latest_move, v1, v10]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"hash": "\xff"}',
        b'{"hash": "x", "previous": null, "time": "", "message": null, "publisher": ""}',
    ],
)
def test_an_object_that_is_no_move_is_named(store: ObjectStore, content: bytes) -> None:
    store.create(".quilt/tags/n/latest/9999999998.json", content)
    with pytest.raises(UnsupportedFormat, match=r"9999999998\.json"):
        read_tag(store, "n", "latest")


def test_tags_that_cannot_be_read_are_left_out_and_named_where_asked(store: ObjectStore) -> None:
    move_tag(store, "n", "good", A, None)
    move_tag(store, "n", "worse", A, None)
    store.create(layout.tag_move_key("n", "bad", 1), b"\xff")
    store.create(layout.tag_move_key("n", "worse", 2), b" " * (MOVE_BYTES + 1))
    left_out: list[FusepkgError] = []
    assert [named.tag for named in list_tags(store, "n", skip=left_out.append)] == ["good"]
    assert sorted(error.code for error in left_out) == ["package.unsupported_format", "remote.object_too_large"]
    assert all(".quilt/tags/n/" in error.message for error in left_out)
    assert [named.top_hash for named in list_history(store, "n", "worse", skip=left_out.append)] == [A]
    assert newest_version(store, "n") == A
    with pytest.raises((UnsupportedFormat, ObjectTooLarge)):
        list_tags(store, "n")  # what collects garbage must not take an unreadable tag for none


def test_a_record_of_a_move_that_is_far_too_large_is_refused(store: ObjectStore) -> None:
    store.create(".quilt/tags/n/latest/9999999998.json", b" " * (MOVE_BYTES + 1))
    with pytest.raises(ObjectTooLarge, match=r"9999999998\.json"):
        read_tag(store, "n", "latest")


def test_a_stray_object_among_the_moves_is_named(store: ObjectStore) -> None:
    move_tag(store, "n", "latest", A, None)
    store.create(".quilt/tags/n/latest/0-notes.txt", b"")
    with pytest.raises(UnsupportedFormat, match=r"0-notes\.txt"):
        read_tag(store, "n", "latest")


def test_keys_that_a_later_version_adds_are_ignored(store: ObjectStore) -> None:
    content = {"hash": A, "previous": None, "time": "t", "message": None, "publisher": "p", "new": [1]}
    store.create(".quilt/tags/n/latest/9999999998.json", json.dumps(content).encode())
    assert read_tag(store, "n", "latest") == TagState(1, A)


# --- rolling back --------------------------------------------------------------------------------------------


@pytest.fixture
def moved(store: ObjectStore) -> ObjectStore:
    """A tag that named A, then B, then C."""
    state = None
    for top_hash in (A, B, C):
        store.create(layout.manifest_key("n", top_hash), b"{}")
        state = move_tag(store, "n", "latest", top_hash, state).state
    return store


def test_rolling_back_goes_back_further_each_time_and_keeps_all_moves(moved: ObjectStore) -> None:
    assert roll_back(moved, "n", "latest").top_hash == B
    back = roll_back(moved, "n", "latest", message="bad labels")
    assert (back.top_hash, back.previous, back.message, back.number) == (A, B, "bad labels", 5)
    with pytest.raises(HashNotFound, match="nothing before"):
        roll_back(moved, "n", "latest")
    assert [move.top_hash for move in tag_history(moved, "n", "latest")] == [A, B, C, B, A]


def test_rolling_back_to_a_version(moved: ObjectStore) -> None:
    assert roll_back(moved, "n", "latest", A).top_hash == A
    assert roll_back(moved, "n", "latest", A).number == 4
    with pytest.raises(HashNotFound, match="12" * 32):
        roll_back(moved, "n", "latest", "12" * 32)
    assert len(tag_history(moved, "n", "latest")) == 4


def test_a_tag_of_quilt3s_own_is_not_rolled_back(store: ObjectStore) -> None:
    store.create(".quilt/named_packages/ns/name/latest", A.encode())
    with pytest.raises(TagNotFound) as caught:
        roll_back(store, "ns/name", "latest")
    assert "quilt3" in caught.value.hint


def test_rolling_back_does_not_overtake_another_publisher(moved: ObjectStore) -> None:
    gate = Gate()
    held = FaultyStore(moved, [Fault("create", gate=gate)])
    with ThreadPoolExecutor(1) as threads:
        rolling = threads.submit(roll_back, held, "n", "latest")
        gate.wait_reached()
        move_tag(moved, "n", "latest", A, TagState(3, C), publisher="them@there")
        gate.open()
        with pytest.raises(TagConflict, match="them@there"):
            rolling.result()
    assert [move.top_hash for move in tag_history(moved, "n", "latest")] == [A, C, B, A]
