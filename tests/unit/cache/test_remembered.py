"""Part-reads with remembered sums: the right bytes, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fusepkg_cache import Cache
from fusepkg_cache.records import BLOCK_BYTES

from tests.unit.cache.blobs import LARGE, blob, flip

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DIGEST, DATA = blob(LARGE)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    """A cache with one large blob, whose sums are remembered."""
    with Cache(tmp_path / "blobs") as cache:
        cache.put(DIGEST, DATA)
        assert cache.read(DIGEST, 0, 1) == DATA[:1]
        yield cache


def file_of(cache: Cache) -> Path:
    (found,) = cache.directory.glob(f"v*/blobs/*/*/{DIGEST.hex}")
    return found


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (0, 1),
        (BLOCK_BYTES - 1, 2),
        (5, 3 * BLOCK_BYTES),
        (LARGE - 3, 10),
        (LARGE, 5),
        (BLOCK_BYTES, BLOCK_BYTES),
        (7, 0),
    ],
)
def test_any_part_is_read(cache: Cache, offset: int, length: int) -> None:
    assert cache.read(DIGEST, offset, length) == DATA[offset : offset + length]
    assert cache.get(DIGEST) == DATA


def test_damage_is_found_at_each_read(cache: Cache) -> None:
    """Only the damaged block is refused, at the first read after it was damaged."""
    path = file_of(cache)
    path.chmod(0o600)
    path.write_bytes(flip(DATA, BLOCK_BYTES + 9))
    assert cache.read(DIGEST, 10, 10) == DATA[10:20]
    assert cache.read(DIGEST, BLOCK_BYTES, 4) is None
    assert not path.exists()


def test_a_cut_off_file_gives_nothing(cache: Cache) -> None:
    path = file_of(cache)
    path.chmod(0o600)
    path.write_bytes(DATA[: LARGE - 5])
    assert cache.read(DIGEST, LARGE - 4, 4) is None


def test_what_was_dropped_is_gone_and_may_come_back(cache: Cache) -> None:
    assert cache.remove(DIGEST)
    assert cache.read(DIGEST, 0, 10) is None
    cache.put(DIGEST, DATA)
    assert cache.read(DIGEST, 3, 10) == DATA[3:13]
