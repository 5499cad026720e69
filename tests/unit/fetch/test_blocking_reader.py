"""The source for callers without an event loop: from any thread, in forked children, and when it ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fusepkg_cache import Cache
from fusepkg_cache.digest import Algorithm, compute_digest

from fusepkg.errors import CacheFailure, DigestMismatch, RemoteUnavailable
from fusepkg.fetch.blocking_reader import BlockingReader
from fusepkg.fetch.reader import EntryReader
from fusepkg.model.entry import Entry
from fusepkg.model.physical_key import PhysicalKey
from fusepkg.registry.manifests import get_chunk_list
from fusepkg.store.faulty import Fault, FaultyStore, Gate, flip
from fusepkg.store.memory import MemoryStore

DATA = bytes(range(256)) * 40


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(MemoryStore())


@pytest.fixture
def source(store: FaultyStore, tmp_path: Path) -> Iterator[BlockingReader]:
    source = BlockingReader(
        lambda nursery: EntryReader(
            lambda: Cache(tmp_path / "cache"),
            lambda place: (store, place.key),
            lambda digest: get_chunk_list(store, digest),
            nursery,
        )
    )
    yield source
    source.close()


def put(store: FaultyStore, key: str, data: bytes = DATA) -> Entry:
    store.inner.overwrite(key, data)
    return Entry(key, PhysicalKey("s3", "memory", key), len(data), compute_digest(Algorithm.SHA2_256_CHUNKED, data), {})


def test_any_part_from_any_thread_with_one_fetch(source: BlockingReader, store: FaultyStore) -> None:
    entry = put(store, "a")
    parts = [(0, None), (10, 100), (len(DATA) - 1, 10), (len(DATA), 1), (len(DATA) + 1, None)] * 20
    with ThreadPoolExecutor(16) as pool:
        read = list(pool.map(lambda part: source.read(entry, *part), parts))
    assert read == [DATA[at : None if length is None else at + length] for at, length in parts]
    assert store.calls == [("get", "a")]
    assert source.cached_chunks(entry) == (1, 1)


def test_errors_reach_the_caller_and_the_source_goes_on(source: BlockingReader, store: FaultyStore) -> None:
    entry = put(store, "a")
    store.add(Fault("get", spoil=flip(0), times=2))
    with pytest.raises(DigestMismatch):
        source.read(entry)
    assert source.read(entry) == DATA


def test_many_ranges_side_by_side_with_an_error_in_the_place_of_what_it_kept_away(
    source: BlockingReader, store: FaultyStore
) -> None:
    good, bad = put(store, "good"), put(store, "bad", DATA[1:])
    store.inner.overwrite("bad", DATA[2:] + b"!")
    first, error, last = source.read_many([(good, 0, 5), (bad, 0, 5), (good, 5, len(DATA))])
    assert (first, last) == (DATA[:5], DATA[5:])
    assert isinstance(error, DigestMismatch)
    assert source.read_many([]) == []
    assert source.read_many([(good, at, 1) for at in range(2000)]) == [DATA[n : n + 1] for n in range(2000)]


def test_closing_ends_those_who_wait_and_the_next_call_starts_anew(source: BlockingReader, store: FaultyStore) -> None:
    gate, errors = Gate(), []
    store.add(Fault("get", gate=gate))
    entry = put(store, "a")

    def read() -> None:
        try:
            source.read(entry)
        except RemoteUnavailable as exc:
            errors.append(exc.message)

    waiting = threading.Thread(target=read)
    waiting.start()
    gate.wait_reached()
    source.close()
    waiting.join(30)
    gate.open()
    assert len(errors) == 1
    assert source.read(entry) == DATA


def test_a_source_that_cannot_be_made_says_why() -> None:
    def fail(_nursery: object) -> EntryReader:
        raise CacheFailure("no cache today")

    source = BlockingReader(fail)
    for _ in range(2):
        with pytest.raises(CacheFailure, match="no cache today"):
            source.cached_chunks(put(FaultyStore(MemoryStore()), "a"))


def test_a_forked_child_reads_by_itself_and_its_parent_goes_on(source: BlockingReader, store: FaultyStore) -> None:
    entry, other = put(store, "a"), put(store, "b")
    assert source.read(entry) == DATA
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if source.read(entry) == source.read(other) == DATA else 2
            source.close()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert source.read(other) == DATA
