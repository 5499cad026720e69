"""What follows from S3's checksums is what the bytes hash to; what does not follow is never claimed."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import pytest
from fusepkg_cache import digest as digests
from fusepkg_cache.digest import Algorithm, Digest, compute_digest
from hypothesis import given
from hypothesis import strategies as st

from fusepkg.model.checksums import Checksums, digest_from_checksums, matches_checksums

CHUNK_BYTES = 16
"""Chunks of a few bytes show all that chunks of 8 MiB would."""

sizes = st.integers(0, 5 * CHUNK_BYTES) | st.sampled_from([CHUNK_BYTES, CHUNK_BYTES * 2, CHUNK_BYTES * 3])
data = sizes.flatmap(lambda size: st.binary(min_size=size, max_size=size))


@pytest.fixture(autouse=True, scope="module")
def small_chunks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digests, "MIN_CHUNK_BYTES", CHUNK_BYTES)
        yield


@st.composite
def uploads(draw: st.DrawFn) -> tuple[bytes, Checksums, list[int] | None]:
    """Bytes, and what S3 would tell of them once they are sent in some way."""
    sent = draw(data)
    crc = compute_digest(Algorithm.CRC64NVME, sent).computed if draw(st.booleans()) else None
    way = draw(st.sampled_from(["none", "whole", "chunks", "parts"]))
    if way == "none":
        return sent, Checksums(crc64nvme=crc), None
    if way == "whole":
        return sent, Checksums(hashlib.sha256(sent).digest(), 0, crc), None
    if way == "chunks":
        cuts = list(range(0, len(sent), CHUNK_BYTES))
    else:
        cuts = sorted({0, *draw(st.lists(st.integers(0, max(0, len(sent) - 1)), max_size=6))})
    parts = [sent[begin:end] for begin, end in pairwise([*cuts, len(sent)])] or [b""]
    value = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()
    told = [len(part) for part in parts] if draw(st.booleans()) else None
    return sent, Checksums(value, len(parts), crc), told


@given(uploads())
def test_an_digest_from_checksums_is_the_digest(upload: tuple[bytes, Checksums, list[int] | None]) -> None:
    sent, checksums, part_bytes = upload
    found = digest_from_checksums(len(sent), checksums, part_bytes)
    assert found in (None, compute_digest(Algorithm.SHA2_256_CHUNKED, sent))
    one_chunk = len(sent) <= CHUNK_BYTES
    in_chunks = part_bytes is not None and all(size == CHUNK_BYTES for size in part_bytes[:-1])
    if checksums.sha256 is not None and one_chunk and checksums.parts <= 1:
        assert found is not None
    if checksums.sha256 is not None and in_chunks and part_bytes and part_bytes[-1] <= CHUNK_BYTES:
        assert found is not None


@given(uploads(), st.sampled_from(Algorithm))
def test_the_right_digest_is_never_denied_and_a_wrong_one_never_proven(
    upload: tuple[bytes, Checksums, list[int] | None], algorithm: Algorithm
) -> None:
    sent, checksums, part_bytes = upload
    right = compute_digest(algorithm, sent)
    wrong = Digest(algorithm, bytes([right.value[0] ^ 1]) + right.value[1:])
    assert matches_checksums(len(sent), checksums, right) in (True, None)
    assert matches_checksums(len(sent), checksums, wrong) in (False, None)
    if digest_from_checksums(len(sent), checksums, part_bytes) is not None and algorithm is Algorithm.SHA2_256_CHUNKED:
        assert matches_checksums(len(sent), checksums, right) is True


def test_nothing_follows_from_nothing() -> None:
    some = compute_digest(Algorithm.SHA2_256_CHUNKED, b"x")
    assert digest_from_checksums(1, None) is None
    assert matches_checksums(1, None, some) is None
    assert digest_from_checksums(0, None) == compute_digest(Algorithm.SHA2_256_CHUNKED, b"")
    assert matches_checksums(0, None, some) is False
