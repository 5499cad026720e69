"""Reads in a process that fetches nothing."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import pytest
from fusepkg_cache import Cache
from fusepkg_cache.digest import Algorithm, Digest, chunk_size

from fusepkg.fetch.cached import CachedReads, Watched
from fusepkg.model.entry import Entry
from fusepkg.model.physical_key import PhysicalKey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGE = random.Random(1).randbytes(3 * 8 * 1024 * 1024 - 1000)
CHUNK = chunk_size(len(LARGE))
CHUNKS = [LARGE[at : at + CHUNK] for at in range(0, len(LARGE), CHUNK)]
LIST = b"".join(hashlib.sha256(chunk).digest() for chunk in CHUNKS)
SMALL = b"small" * 1000


class Entries:
    """Two entries: a small one and a large one."""

    def entry(self, number: int) -> Entry:
        if number == 0:
            return Entry("small", PhysicalKey("file", "", "/s"), len(SMALL), sha256(SMALL))
        value = hashlib.sha256(LIST).digest()
        return Entry("large", PhysicalKey("file", "", "/l"), len(LARGE), Digest(Algorithm.SHA2_256_CHUNKED, value))


def sha256(data: bytes) -> Digest:
    return Digest(Algorithm.SHA2_256, hashlib.sha256(data).digest())


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cache]:
    """A cache that has the small blob, the chunk list, and all chunks but the last."""
    directory: Path = tmp_path_factory.mktemp("cached")
    with Cache(directory) as cache:
        for data in (SMALL, LIST, *CHUNKS[:-1]):
            cache.put(sha256(data), data)
        yield cache


def reads(cache: Cache, noted: list[tuple[int, int, int]], *, watched: Watched = Watched.LARGE) -> CachedReads:
    return CachedReads(cache, Entries(), lambda: watched, lambda *place: noted.append(place))  # type: ignore[arg-type]


def test_what_the_cache_has_is_read(cache: Cache) -> None:
    one = reads(cache, [])
    assert one.read(0, 0, 1 << 20) == SMALL
    assert one.read(0, len(SMALL), 10) == b""
    for offset in (5, CHUNK - 3, 2 * CHUNK - 4096):
        assert one.read(1, offset, 4096) == (LARGE[offset : offset + 4096] if offset + 4096 <= 2 * CHUNK else None)
    assert one.read(1, 2 * CHUNK, 10) is None


def test_a_reader_in_order_is_told_of_while_chunks_ahead_are_missing(cache: Cache) -> None:
    noted: list[tuple[int, int, int]] = []
    one = reads(cache, noted)
    one.read(1, 0, 100)
    one.read(1, 100, 100)
    assert noted == [(1, 0, 100), (1, 100, 100)]
    cache.put(sha256(CHUNKS[-1]), CHUNKS[-1])
    noted.clear()
    one.read(1, 200, 100)
    assert noted == []


def test_small_blobs_are_told_of_if_that_is_wanted(cache: Cache) -> None:
    noted: list[tuple[int, int, int]] = []
    reads(cache, noted).read(0, 0, 100)
    assert noted == []
    reads(cache, noted, watched=Watched.SMALL).read(0, 0, 100)
    assert noted == [(0, 0, 100)]
    assert reads(cache, noted, watched=Watched.ALL).read(0, 0, 100) is None


def test_a_large_blob_without_its_chunk_list_is_left_to_the_other_process(tmp_path: Path) -> None:
    with Cache(tmp_path / "empty") as empty:
        assert reads(empty, []).read(1, 0, 10) is None
