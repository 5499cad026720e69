"""Blobs too large for memory come in pieces, and are checked before anybody sees them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fusepkg_cache import Algorithm, Cache, WrongBytes, compute_digest

MIB = 1024 * 1024
BLOB = bytes(range(256)) * (9 * MIB // 256) + b"tail"


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "cache") as cache:
        yield cache


def pieces(blob: bytes, size: int = MIB) -> Iterator[bytes]:
    return (blob[at : at + size] for at in range(0, len(blob), size))


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("blob", [BLOB, b"short", b""], ids=["large", "short", "empty"])
def test_a_blob_in_pieces_is_read_in_any_part(cache, algorithm, blob):
    digest = compute_digest(algorithm, blob)
    cache.put_pieces(digest, pieces(blob))
    assert digest in cache
    assert cache.get(digest) == blob
    assert cache.read(digest, 8 * MIB - 5, 10) == blob[8 * MIB - 5 : 8 * MIB + 5]


def test_wrong_pieces_leave_nothing(cache, tmp_path):
    digest = compute_digest(Algorithm.SHA2_256_CHUNKED, BLOB)
    with pytest.raises(WrongBytes):
        cache.put_pieces(digest, pieces(BLOB[:-1] + b"x"))
    assert digest not in cache
    assert not [path for path in tmp_path.rglob("staging/*/*") if path.is_file()]


def test_pieces_that_break_off_leave_nothing(cache, tmp_path):
    def broken() -> Iterator[bytes]:
        yield BLOB[:MIB]
        raise ConnectionResetError("the source went away")  # an OSError, but not of our disk

    digest = compute_digest(Algorithm.SHA2_256_CHUNKED, BLOB)
    with pytest.raises(ConnectionResetError, match="the source went away"):
        cache.put_pieces(digest, broken())
    assert digest not in cache
    assert not [path for path in tmp_path.rglob("staging/*/*") if path.is_file()]
