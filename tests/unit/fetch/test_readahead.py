"""Readers in order get chunks ahead, more the longer they go on; those that jump get none."""

from __future__ import annotations

import random

from fusepkg_cache.digest import MIN_CHUNK_BYTES, Algorithm, Digest

from fusepkg.fetch.readahead import MAX_AHEAD, Readahead
from fusepkg.model.entry import Entry
from fusepkg.model.physical_key import PhysicalKey

CHUNK = MIN_CHUNK_BYTES
PAGE = 128 * 1024
CHUNKS = 64
ENTRY = Entry(
    "large", PhysicalKey("s3", "memory", "large"), CHUNKS * CHUNK, Digest(Algorithm.SHA2_256_CHUNKED, bytes(32))
)


def read_pages(readahead: Readahead, start: int, end: int) -> list[int]:
    """Read in order; the chunks that were fetched ahead."""
    return [
        chunk for offset in range(start, end, PAGE) for chunk in readahead.note(ENTRY, offset, min(offset + PAGE, end))
    ]


def test_chunks_come_once_each_and_more_ahead_of_a_reader_that_goes_on():
    readahead, ahead = Readahead(), []
    distances = []
    for chunk in range(12):
        ahead += read_pages(readahead, chunk * CHUNK, (chunk + 1) * CHUNK)
        distances.append(ahead[-1] - chunk)
    assert ahead == list(range(1, len(ahead) + 1)), "in order, none twice"
    assert distances == sorted(distances)
    assert (distances[0], distances[-1]) == (1, MAX_AHEAD)


def test_nothing_lies_ahead_of_the_end():
    readahead = Readahead()
    assert max(read_pages(readahead, (CHUNKS - 6) * CHUNK, ENTRY.size)) == CHUNKS - 1


def test_reads_here_and_there_fetch_nothing_ahead():
    readahead, chance = Readahead(), random.Random(7)
    for _ in range(20_000):
        offset = chance.randrange(ENTRY.size // 65536) * 65536
        assert not readahead.note(ENTRY, offset, offset + 65536)


def test_one_read_of_a_whole_chunk_is_no_order_but_two_are():
    readahead = Readahead()
    assert not readahead.note(ENTRY, CHUNK, 2 * CHUNK)
    assert list(readahead.note(ENTRY, 2 * CHUNK, 3 * CHUNK)) == [3, 4]


def test_pages_asked_for_side_by_side_are_in_order():
    readahead, ahead = Readahead(), []
    for at in range(0, 3 * CHUNK, 4 * PAGE):
        for offset in (at + PAGE, at, at + 3 * PAGE, at + 2 * PAGE):
            ahead += readahead.note(ENTRY, offset, offset + PAGE)
    assert ahead == list(range(1, len(ahead) + 1))
    assert len(ahead) > 3


def test_two_readers_of_one_blob_are_told_apart():
    readahead, ahead = Readahead(), []
    for page in range(CHUNK // PAGE):
        for start in (0, 30 * CHUNK):
            offset = start + page * PAGE
            ahead += readahead.note(ENTRY, offset, offset + PAGE)
    assert ahead == [1, 31]


def test_a_limit_is_kept():
    readahead = Readahead()
    for offset in range(0, 10 * CHUNK, PAGE):
        assert len(readahead.note(ENTRY, offset, offset + PAGE, 1)) <= 1
