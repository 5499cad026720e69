"""Bytes for callers that wait: compared with their digest, and read once more where they are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from fusepkg_cache.digest import Algorithm, compute_digest

from fusepkg.errors import DigestMismatch, ObjectMissing
from fusepkg.fetch.retries import MISMATCH_TRIES
from fusepkg.fetch.verified import ExpectedObject, get_range, is_right, take_object
from fusepkg.model.physical_key import PhysicalKey, parse_physical_key
from fusepkg.store.faulty import Fault, FaultyStore, flip, truncate
from fusepkg.store.memory import MemoryStore

DATA = bytes(range(256)) * 8


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(MemoryStore("bucket"))


@pytest.fixture
def expected(store: FaultyStore) -> ExpectedObject:
    store.inner.create("a", DATA)
    digest = compute_digest(Algorithm.SHA2_256_CHUNKED, DATA)
    return ExpectedObject(parse_physical_key(store.url("a")), len(DATA), digest)


def taken(store: FaultyStore, expected: ExpectedObject) -> bytes:
    return take_object(expected, lambda place: (store, place.key), b"".join, piece_bytes=100)


def ranged(store: FaultyStore, expected: ExpectedObject) -> bytes:
    part = DATA[10:20]
    found = get_range(expected, opener(store), 10, 10, compute_digest(Algorithm.SHA2_256_CHUNKED, part))
    assert found == part
    return DATA


def opener(store: FaultyStore) -> object:
    def open_place(place: PhysicalKey) -> tuple[FaultyStore, str]:
        return store, place.key

    return open_place


@pytest.mark.parametrize("read", [taken, ranged])
@pytest.mark.parametrize("spoil", [flip(3), truncate(3)])
def test_what_arrives_wrong_once_is_read_again(
    store: FaultyStore, expected: ExpectedObject, read: object, spoil: object
) -> None:
    store.add(Fault("stream" if read is taken else "get", spoil=spoil, times=1))
    assert read(store, expected) == DATA
    assert len(store.calls) == 2


@pytest.mark.parametrize("read", [taken, ranged])
def test_what_stays_wrong_is_refused_after_few_tries(
    store: FaultyStore, expected: ExpectedObject, read: object
) -> None:
    store.add(Fault("stream" if read is taken else "get", spoil=flip(3), times=None))
    with pytest.raises(DigestMismatch, match="does not hold the 2048 bytes"):
        read(store, expected)
    assert len(store.calls) == MISMATCH_TRIES


def test_a_longer_object_is_not_read_to_its_end(store: FaultyStore, expected: ExpectedObject) -> None:
    seen = []

    def count(pieces: Iterator[bytes]) -> None:
        seen.extend(pieces)

    with pytest.raises(DigestMismatch):
        take_object(replace(expected, size=250), opener(store), count, piece_bytes=100)
    assert seen == [DATA[:100], DATA[100:200]] * MISMATCH_TRIES


def test_whether_it_is_right_is_told_without_an_error_and_a_missing_one_with(
    store: FaultyStore, expected: ExpectedObject
) -> None:
    assert is_right(expected, opener(store))
    assert not is_right(replace(expected, size=len(DATA) + 1), opener(store))
    with pytest.raises(ObjectMissing):
        is_right(replace(expected, place=parse_physical_key(store.url("gone"))), opener(store))
    with pytest.raises(KeyboardInterrupt):
        is_right(expected, opener(store), interrupt)


def interrupt() -> None:
    raise KeyboardInterrupt
