from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fusepkg_cache import Algorithm, Digest
from fusepkg_cache.digest import MIN_CHUNK_BYTES
from fusepkg_cache.files import BlobFiles, check_in_full, read_checked
from fusepkg_cache.records import BLOCK_BYTES, record_of, span_of

from tests.unit.cache.blobs import LARGE, blob, flip


@pytest.fixture
def blobs(tmp_path: Path) -> BlobFiles:
    return BlobFiles(tmp_path / "blobs")


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[int]:
    """A descriptor of a file the test writes."""
    (tmp_path / "file").touch()
    descriptor = os.open(tmp_path / "file", os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def publish(blobs: BlobFiles, tmp_path: Path, digest: Digest, data: bytes) -> None:
    (tmp_path / "written").write_bytes(data)
    blobs.publish(tmp_path / "written", digest)


def test_a_published_blob_is_exactly_its_bytes(blobs: BlobFiles, tmp_path: Path) -> None:
    digest, data = blob(LARGE)
    assert blobs.size(digest) is None
    assert blobs.open(digest) is None
    publish(blobs, tmp_path, digest, data)
    assert (tmp_path / "blobs" / "sha2-256" / digest.hex[:2] / digest.hex).read_bytes() == data
    assert blobs.size(digest) == LARGE


def test_removing_tells_the_size(blobs: BlobFiles, tmp_path: Path) -> None:
    digest, data = blob(LARGE)
    publish(blobs, tmp_path, digest, data)
    assert blobs.remove(digest) == LARGE
    assert blobs.remove(digest) is None


def test_a_file_that_was_replaced_is_not_removed(blobs: BlobFiles, tmp_path: Path) -> None:
    digest, data = blob(LARGE)
    publish(blobs, tmp_path, digest, flip(data, 5))
    descriptor = blobs.open(digest)
    assert descriptor is not None
    publish(blobs, tmp_path, digest, data)
    assert not blobs.remove_opened(digest, descriptor)
    os.close(descriptor)
    descriptor = blobs.open(digest)
    assert descriptor is not None
    assert blobs.remove_opened(digest, descriptor)
    assert not blobs.remove_opened(digest, descriptor)
    os.close(descriptor)


def test_listing_passes_over_what_is_foreign(blobs: BlobFiles, tmp_path: Path) -> None:
    assert list(blobs) == []
    digests = sorted([blob(10, seed)[0] for seed in range(20)], key=lambda digest: digest.hex)
    for digest in digests:
        publish(blobs, tmp_path, digest, b"any")
    (blobs.directory / "note").touch()
    (blobs.directory / "sha2-256" / "note").touch()
    (blobs.directory / "sha2-256" / digests[0].hex[:2] / "note").touch()
    assert list(blobs) == digests


def test_a_span_is_read_and_checked(opened: int) -> None:
    digest, data = blob(LARGE)
    os.write(opened, data)
    span = span_of(record_of(digest, data), BLOCK_BYTES + 1, 10)
    assert span is not None
    assert read_checked(opened, digest, span) == data[BLOCK_BYTES : 2 * BLOCK_BYTES]


@pytest.mark.parametrize("damage", ["bit", "short", "long"])
def test_a_span_of_a_damaged_file_is_refused(opened: int, damage: str) -> None:
    digest, data = blob(LARGE)
    os.write(opened, flip(data, BLOCK_BYTES + 5) if damage == "bit" else data)
    if damage != "bit":
        os.truncate(opened, LARGE + (1 if damage == "long" else -1))
    span = span_of(record_of(digest, data), BLOCK_BYTES + 1, 10)
    assert span is not None
    assert read_checked(opened, digest, span) is None


def test_damage_outside_a_span_does_not_matter(opened: int) -> None:
    digest, data = blob(LARGE)
    os.write(opened, flip(data, 3 * BLOCK_BYTES))
    span = span_of(record_of(digest, data), 0, 3 * BLOCK_BYTES)
    assert span is not None
    assert read_checked(opened, digest, span) == data[: 3 * BLOCK_BYTES]


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES, 17 * BLOCK_BYTES + 3, MIN_CHUNK_BYTES, MIN_CHUNK_BYTES + 1])
def test_a_check_in_full_gives_the_record(opened: int, algorithm: Algorithm, size: int) -> None:
    digest, data = blob(size, algorithm=algorithm)
    os.write(opened, data)
    assert check_in_full(opened, digest) == record_of(digest, data)
    os.ftruncate(opened, size + 1)
    assert check_in_full(opened, digest) is None
