"""Which chunks a range touches, and what they are called: against the blob itself."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from fusepkg_cache import Cache
from fusepkg_cache.digest import MIN_CHUNK_BYTES, Algorithm, Digest, combine_chunks

from fusepkg.fetch.chunks import cached_digests, chunk_spans, is_chunked, nth_digest
from fusepkg.model.cache_names import list_digest
from fusepkg.model.entry import Entry
from fusepkg.model.physical_key import PhysicalKey

CHUNK = MIN_CHUNK_BYTES
HASHES = [hashlib.sha256(bytes([number])).digest() for number in range(3)]


def entry_of(size: int, digest: Digest | None = None) -> Entry:
    return Entry("key", PhysicalKey("s3", "bucket", "key"), size, digest or combine_chunks(HASHES))


@pytest.mark.parametrize(("size", "chunked"), [(0, False), (1, False), (CHUNK, False), (CHUNK + 1, True)])
def test_more_than_one_chunk_is_chunked(size: int, chunked: bool):
    assert is_chunked(entry_of(size)) is chunked


@pytest.mark.parametrize(
    ("offset", "end", "spans"),
    [
        (0, 1, [(0, 0, 1)]),
        (CHUNK - 1, CHUNK, [(0, CHUNK - 1, CHUNK)]),
        (CHUNK, CHUNK + 1, [(1, 0, 1)]),
        (CHUNK - 1, CHUNK + 1, [(0, CHUNK - 1, CHUNK), (1, 0, 1)]),
        (5, 2 * CHUNK + 7, [(0, 5, CHUNK), (1, 0, CHUNK), (2, 0, 7)]),
    ],
)
def test_spans_are_the_touched_parts_of_the_touched_chunks(offset: int, end: int, spans: list[tuple[int, int, int]]):
    assert list(chunk_spans(entry_of(2 * CHUNK + 10), offset, end)) == spans


def test_spans_follow_the_chunk_size_of_huge_blobs():
    size = 10_000 * CHUNK + 1  # one more than there may be chunks of that size: they double
    assert list(chunk_spans(entry_of(size), size - 1, size)) == [(5_000, 0, 1)]
    assert list(chunk_spans(entry_of(size), CHUNK, CHUNK + 1)) == [(0, CHUNK, CHUNK + 1)]


def test_chunks_are_named_by_their_plain_hash():
    chunk_list = b"".join(HASHES)
    assert [nth_digest(chunk_list, index).value for index in range(3)] == HASHES
    assert nth_digest(chunk_list, 0).algorithm is Algorithm.SHA2_256


def test_the_chunk_list_is_itself_a_blob_of_the_name_the_entry_gives():
    name = list_digest(entry_of(3 * CHUNK))
    assert name is not None
    assert name.value == hashlib.sha256(b"".join(HASHES)).digest()
    assert list_digest(entry_of(3 * CHUNK, Digest(Algorithm.SHA2_256, HASHES[0]))) is None


def test_cached_digests_name_the_blob_its_list_and_its_chunks(tmp_path: Path):
    large, small = entry_of(3 * CHUNK), entry_of(5, Digest(Algorithm.SHA2_256, HASHES[0]))
    name = list_digest(large)
    assert name is not None
    with Cache(tmp_path / "cache") as cache:
        assert list(cached_digests(cache, [small, large])) == [small.digest, large.digest, name]
        cache.put(name, b"".join(HASHES))
        chunks = [Digest(Algorithm.SHA2_256, value) for value in HASHES]
        assert set(cached_digests(cache, [large])) == {large.digest, name, *chunks}
        counted = cache.info()
        assert (counted.small_hits, counted.misses) == (0, 0), "looking after the cache is not using it"
