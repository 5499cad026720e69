from __future__ import annotations

import pytest
from fusepkg_cache import Algorithm, Digest
from fusepkg_cache.records import (
    BLOCK_BYTES,
    Totals,
    block_sums,
    digest_of,
    key_of,
    record_of,
    seal,
    span_of,
    split,
    totals_from,
    unseal,
)

from tests.unit.cache.blobs import blob, flip


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_keys_go_both_ways(algorithm: Algorithm) -> None:
    digest = Digest(algorithm, bytes(range(32)))
    assert digest_of(key_of(digest)) == digest


def test_the_same_hash_under_two_algorithms_has_two_keys() -> None:
    assert len({key_of(Digest(algorithm, bytes(32))) for algorithm in Algorithm}) == len(Algorithm)


@pytest.mark.parametrize("key", [b"", b"\x01", b"\x07" + bytes(32), b"\x01" + bytes(33)])
def test_foreign_keys_have_no_digest(key: bytes) -> None:
    assert digest_of(key) is None


@pytest.mark.parametrize("size", [0, 1, 10_000])
def test_a_sealed_value_is_whole(size: int) -> None:
    digest, data = blob(size)
    total, kept = split(seal(digest, data))
    assert kept == data
    assert unseal(digest, total, kept)


def test_a_changed_bit_a_lost_byte_and_another_blobs_value_break_the_seal() -> None:
    digest, data = blob(1000)
    other, _ = blob(1000, 1)
    value = seal(digest, data)
    assert not unseal(digest, *split(flip(value, 3)))
    assert not unseal(digest, *split(flip(value, 500)))
    assert not unseal(digest, *split(value[:-1]))
    assert not unseal(digest, *split(b""))
    assert not unseal(other, *split(value))


def test_a_value_of_another_scope_breaks_the_seal() -> None:
    plain, data = blob(1000, algorithm=Algorithm.CRC64NVME)
    ours, theirs = (Digest(plain.algorithm, plain.computed + scope * 24) for scope in (b"a", b"b"))
    assert not unseal(theirs, *split(seal(ours, data)))


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


def test_totals_go_both_ways() -> None:
    totals = Totals(1, 2, 3)
    assert totals_from(totals.packed()) == totals
    assert totals_from(None) == totals_from(b"short") == Totals()
