from __future__ import annotations

import pytest
from fusepkg_cache import Algorithm, Digest
from fusepkg_cache.records import (
    BLOCK_BYTES,
    block_sums,
    digest_of,
    key_of,
    record_of,
    span_of,
)

from tests.unit.cache.blobs import blob


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_keys_go_both_ways(algorithm: Algorithm) -> None:
    digest = Digest(algorithm, bytes(range(32)))
    assert digest_of(key_of(digest)) == digest


def test_the_same_hash_under_two_algorithms_has_two_keys() -> None:
    assert len({key_of(Digest(algorithm, bytes(32))) for algorithm in Algorithm}) == len(Algorithm)


@pytest.mark.parametrize("key", [b"", b"\x01", b"\x07" + bytes(32), b"\x01" + bytes(33)])
def test_foreign_keys_have_no_digest(key: bytes) -> None:
    assert digest_of(key) is None


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * BLOCK_BYTES])
@pytest.mark.parametrize("offset", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, 3 * BLOCK_BYTES + 5, 9 * BLOCK_BYTES])
@pytest.mark.parametrize("length", [0, 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 1, None])
def test_a_span_covers_what_is_asked_and_no_block_more(size: int, offset: int, length: int | None) -> None:
    digest, data = blob(size)
    span = span_of(record_of(digest, data), offset, length)
    assert span is not None
    assert span.blob_bytes == size
    assert span.sums == block_sums(digest, data[span.start : span.stop])
    end = size if length is None else min(size, offset + length)
    if offset < end:
        assert offset - BLOCK_BYTES < span.start <= offset
        assert end <= span.stop < end + BLOCK_BYTES
        assert span.start % BLOCK_BYTES == 0
    else:
        assert span.start == span.stop


def test_a_damaged_record_has_no_span() -> None:
    digest, data = blob(3 * BLOCK_BYTES)
    record = record_of(digest, data)
    for damaged in (b"", record[:5], record[:-1], record + b"x", b"\xff" * 8 + record[8:]):
        assert span_of(damaged, 0, None) is None
