"""Blobs in unnamed files: as sound as cached ones, and gone with their object."""

from __future__ import annotations

import gc
import os
import resource
import tempfile
from pathlib import Path

import pytest
from fusepkg_cache import Algorithm, CacheFull, CacheUnusable, TemporaryBlob, WrongBytes

from tests.unit.cache.blobs import LARGE, blob


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_any_part_of_a_blob_that_came_in_pieces(algorithm: Algorithm) -> None:
    digest, data = blob(LARGE, algorithm=algorithm)
    kept = TemporaryBlob(digest, (data[at : at + 7777] for at in range(0, LARGE, 7777)))
    assert kept.size == LARGE
    for offset, length in ((0, LARGE), (0, 10), (100_000, 100_000), (LARGE - 1, 10), (LARGE, 1), (LARGE + 5, 1)):
        assert kept.read(offset, length) == data[offset : offset + length]


def test_it_has_no_name_and_ends_with_its_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    digest, data = blob(LARGE)
    kept = TemporaryBlob(digest, [data])
    descriptor = kept._descriptor
    assert os.fstat(descriptor).st_nlink == 0
    assert os.listdir(directory) == []
    del kept
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_other_bytes_are_refused_and_what_the_pieces_raise_is_raised() -> None:
    digest, data = blob(LARGE)
    with pytest.raises(WrongBytes):
        TemporaryBlob(digest, [data, b"!"])
    with pytest.raises(ZeroDivisionError):
        TemporaryBlob(digest, (data[: 1 // (1 - at)] for at in range(2)))


@pytest.mark.parametrize("damage", ["a bit", "cut off", "closed"])
def test_damage_on_the_disk_is_noticed(damage: str) -> None:
    digest, data = blob(LARGE)
    kept = TemporaryBlob(digest, [data])
    if damage == "a bit":
        os.pwrite(kept._descriptor, bytes([data[100] ^ 1]), 100)
    elif damage == "cut off":
        os.ftruncate(kept._descriptor, 100)
    else:
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, kept._descriptor)
        os.close(null)
    assert kept.read(0, 200) is None


def test_without_room_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest, data = blob(LARGE)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(CacheFull):
            TemporaryBlob(digest, [data])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(CacheUnusable, match="nowhere"):
        TemporaryBlob(digest, [data])
