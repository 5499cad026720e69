"""Ranges of a batch that lie close together are read as one."""

from __future__ import annotations

from fusepkg_cache.digest import MIN_CHUNK_BYTES, Algorithm, Digest

from fusepkg.errors import ObjectMissing
from fusepkg.fetch.joined import GAP_BYTES, MOST_BYTES, join_ranges, split_joined
from fusepkg.model.entry import Entry
from fusepkg.model.physical_key import PhysicalKey

SIZE = 20 * MIN_CHUNK_BYTES


def entry(key: str, size: int = SIZE) -> Entry:
    return Entry(key, PhysicalKey("s3", "b", key), size, Digest(Algorithm.SHA2_256_CHUNKED, bytes(32)))


def spans(wanted: list[tuple[Entry, int, int]]) -> list[tuple[str, int, int, list[int]]]:
    return [(one.entry.logical_key, one.offset, one.end, one.numbers) for one in join_ranges(wanted)]


def test_near_ranges_of_one_large_blob_are_one_whatever_their_order():
    wanted = [(entry("a"), 300, 100), (entry("b"), 0, 10), (entry("a"), 100, 200), (entry("a"), 150, 20)]
    assert spans(wanted) == [("a", 100, 400, [2, 3, 0]), ("b", 0, 10, [1])]


def test_far_ranges_long_ones_small_blobs_and_empty_ranges_stay_apart():
    assert len(join_ranges([(entry("a"), 0, 10), (entry("a"), 11 + GAP_BYTES, 10)])) == 2
    assert len(join_ranges([(entry("a"), 0, MOST_BYTES), (entry("a"), MOST_BYTES, 1)])) == 2
    assert len(join_ranges([(entry("a", 100), 0, 10), (entry("a", 100), 10, 10)])) == 2
    assert spans([(entry("a"), 5, 0)]) == [("a", 5, 5, [0])]


def test_each_range_gets_its_own_bytes_or_the_error():
    data = bytes(range(200))
    wanted = [(entry("a"), 60, 10), (entry("a"), 50, 30), (entry("a"), 90, 5)]
    (joined,) = join_ranges(wanted)
    found = split_joined(joined, wanted, data[50:95])
    assert [found[number] for number in range(3)] == [data[60:70], data[50:80], data[90:95]]
    error = ObjectMissing("gone")
    assert split_joined(joined, wanted, error) == dict.fromkeys(range(3), error)


def test_ranges_past_the_end_are_cut_there():
    wanted = [(entry("a"), SIZE - 10, 20), (entry("a"), SIZE - 15, 5)]
    (joined,) = join_ranges(wanted)
    assert (joined.offset, joined.end) == (SIZE - 15, SIZE)
    assert split_joined(joined, wanted, b"0123456789abcde") == {0: b"56789abcde", 1: b"01234"}
