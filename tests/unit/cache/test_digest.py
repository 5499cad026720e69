from __future__ import annotations

import hashlib

import pytest
from fusepkg_cache import Algorithm, Digest, WrongBytes, compute_digest
from fusepkg_cache.digest import (
    MIN_CHUNK_BYTES,
    Hashing,
    chunk_count,
    chunk_digest,
    chunk_size,
    combine_chunks,
    require_match,
)

MIB = 1024**2


def test_plain_sha256() -> None:
    assert compute_digest(Algorithm.SHA2_256, b"abc").hex == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_the_chunked_digest_of_one_chunk_hashes_the_hash() -> None:
    expected = hashlib.sha256(hashlib.sha256(b"abc").digest()).digest()
    assert compute_digest(Algorithm.SHA2_256_CHUNKED, b"abc").value == expected


def test_the_chunked_digest_of_nothing_has_no_chunks() -> None:
    assert compute_digest(Algorithm.SHA2_256_CHUNKED, b"").value == hashlib.sha256(b"").digest()
    assert chunk_count(0) == 0


def test_the_chunked_digest_of_several_chunks() -> None:
    data = bytes(MIN_CHUNK_BYTES) + b"tail"
    pieces = [chunk_digest(data[:MIN_CHUNK_BYTES]).value, chunk_digest(b"tail").value]
    assert compute_digest(Algorithm.SHA2_256_CHUNKED, data) == combine_chunks(pieces)


def test_chunks_double_where_there_would_be_more_than_ten_thousand() -> None:
    assert chunk_size(10_000 * MIN_CHUNK_BYTES) == MIN_CHUNK_BYTES
    assert chunk_size(10_000 * MIN_CHUNK_BYTES + 1) == 2 * MIN_CHUNK_BYTES
    assert chunk_count(10_000 * MIN_CHUNK_BYTES + 1) == 5_001


def test_a_digest_has_32_bytes() -> None:
    with pytest.raises(ValueError):
        Digest(Algorithm.SHA2_256, b"short")


def test_the_same_value_under_two_algorithms_is_two_digests() -> None:
    assert Digest(Algorithm.SHA2_256, bytes(32)) != Digest(Algorithm.SHA2_256_CHUNKED, bytes(32))


def test_wrong_bytes_are_refused_and_both_hashes_named() -> None:
    digest = compute_digest(Algorithm.SHA2_256, b"right")
    require_match(digest, b"right")
    with pytest.raises(WrongBytes) as caught:
        require_match(digest, b"wrong")
    assert digest.hex in str(caught.value)
    assert compute_digest(Algorithm.SHA2_256, b"wrong").hex in str(caught.value)


def test_the_checksum_of_s3() -> None:
    digest = compute_digest(Algorithm.CRC64NVME, b"123456789")
    assert digest.computed.hex() == "ae8b14860a799888"  # the check value of the CRC's definition
    assert digest.value == digest.computed + bytes(24)
    assert digest.base64 == "rosUhgp5mIg="
    assert digest.algorithm.weak


def test_a_scope_does_not_change_what_bytes_are_right() -> None:
    plain = compute_digest(Algorithm.CRC64NVME, b"right")
    scoped = Digest(Algorithm.CRC64NVME, plain.computed + b"s" * 24)
    assert scoped != plain
    assert scoped.matches(plain)
    require_match(scoped, b"right")
    with pytest.raises(WrongBytes):
        require_match(scoped, b"wrong")


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_the_digest_of_pieces_is_that_of_the_whole(algorithm: Algorithm) -> None:
    data = bytes(range(256)) * (MIN_CHUNK_BYTES // 128) + b"tail"
    for piece_bytes in (MIN_CHUNK_BYTES - 1, MIN_CHUNK_BYTES, MIN_CHUNK_BYTES * 3):
        hashing = Hashing(algorithm, len(data))
        for at in range(0, len(data), piece_bytes):
            hashing.update(data[at : at + piece_bytes])
        assert hashing.digest() == compute_digest(algorithm, data)


def test_a_digest_is_written_without_an_empty_scope() -> None:
    strong = compute_digest(Algorithm.SHA2_256, b"data")
    assert str(strong) == f"sha2-256:{strong.hex}"
    weak = compute_digest(Algorithm.CRC64NVME, b"data")
    assert str(weak) == f"crc64nvme:{weak.hex[:16]}"
    scoped = Digest(weak.algorithm, weak.computed + b"\0" * 23 + b"\1")
    assert str(scoped) == f"crc64nvme:{scoped.hex}"


@pytest.mark.parametrize("cut", [1, 100, MIB - 1, MIB, 5 * MIB])
def test_dvcs_older_md5_looks_at_each_mib_for_itself(cut: int) -> None:
    text, binary = b"line\r\n" * 200_000, b"\0" + b"\r\n" * 600_000
    data = text.ljust(MIB, b"x")[: MIB - 1] + b"\r" + b"\n" + text + binary
    blocks = [data[at : at + MIB] for at in range(0, len(data), MIB)]
    assert blocks[0].endswith(b"\r"), "a line end across two blocks stays"
    expected = hashlib.md5()
    for block in blocks:
        expected.update(block.replace(b"\r\n", b"\n") if b"\0" not in block[:512] else block)
    hashing = Hashing(Algorithm.MD5_DOS2UNIX, len(data))
    for at in range(0, len(data), max(cut, 50_000)):
        hashing.update(data[at : at + max(cut, 50_000)])
    assert hashing.digest().computed == expected.digest()
    assert compute_digest(Algorithm.MD5_DOS2UNIX, data).computed == expected.digest()


@pytest.mark.parametrize("algorithm", [Algorithm.MD5, Algorithm.MD5_DOS2UNIX])
def test_md5_is_weak_and_has_room_for_a_scope(algorithm: Algorithm) -> None:
    found = compute_digest(algorithm, b"a")
    assert found.computed == hashlib.md5(b"a").digest()
    scoped = Digest(algorithm, found.computed + b"s" * 16)
    assert algorithm.weak
    assert scoped != found
    assert scoped.matches(found)
