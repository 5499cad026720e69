from __future__ import annotations

import hashlib

from fusepkg_cache.digest import MIN_CHUNK_BYTES, Algorithm, Digest, compute_digest
from hypothesis import given
from hypothesis import strategies as st

from fusepkg.model.entry import Entry
from fusepkg.model.physical_key import PhysicalKey
from fusepkg.model.times import END_S, FIRST_S, content_time_s, directory_time_s, entry_time_s

CHUNKED, PLAIN, CRC = Algorithm.SHA2_256_CHUNKED, Algorithm.SHA2_256, Algorithm.CRC64NVME


def time_of(algorithm: Algorithm, data: bytes) -> int:
    return content_time_s(algorithm, compute_digest(algorithm, data).value, len(data))


def test_times_never_change_from_release_to_release() -> None:
    """Written down: another value would make every program take every file for a new one."""
    assert time_of(CHUNKED, b"V = 1\n") == 1_175_381_170
    assert time_of(CHUNKED, b"V = 2\n") == 1_135_026_414
    assert time_of(CRC, b"V = 1\n") == 1_134_869_618
    assert directory_time_s(b"") == 748_728_104


@given(st.binary(max_size=100))
def test_a_small_file_has_one_time_whichever_sha256_names_it(data: bytes) -> None:
    assert time_of(PLAIN, data) == time_of(CHUNKED, data)


def test_a_large_file_has_a_time_of_its_own_hash() -> None:
    value = hashlib.sha256(b"large").digest()
    assert content_time_s(PLAIN, value, MIN_CHUNK_BYTES + 1) == content_time_s(CHUNKED, value, MIN_CHUNK_BYTES + 1)
    assert content_time_s(PLAIN, value, MIN_CHUNK_BYTES) != content_time_s(CHUNKED, value, MIN_CHUNK_BYTES)


@given(st.sampled_from(Algorithm), st.binary(min_size=32, max_size=32), st.integers(0, 2**63 - 1))
def test_every_time_is_an_even_second_within_the_range(algorithm: Algorithm, value: bytes, size: int) -> None:
    time_s = content_time_s(algorithm, value, size)
    assert FIRST_S <= time_s < END_S
    assert time_s % 2 == 0


def test_other_content_has_another_time() -> None:
    times = {time_of(CHUNKED, str(number).encode()) for number in range(1000)}
    assert len(times) == 1000


def test_the_scope_of_a_checksum_does_not_count() -> None:
    """It tells where bytes came from, and equal bytes have one time."""
    crc = compute_digest(CRC, b"x").computed
    key = PhysicalKey("s3", "b", "k")
    entries = [Entry("k", key, 1, Digest(CRC, crc + scope * 24)) for scope in (b"\0", b"\1")]
    assert entry_time_s(entries[0]) == entry_time_s(entries[1])
