from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fusepkg_cache import Cache, DigestMismatch
from fusepkg_cache import stage as stage_module

from tests.unit.cache.blobs import LARGE, SMALL, blob

BLOBS = [blob(SMALL, seed) for seed in range(20)] + [blob(LARGE, seed) for seed in range(3)]


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "cache") as cache:
        yield cache


def staged_files(cache: Cache) -> list[Path]:
    return [path for path in (cache.directory / "v1" / "staging").rglob("*") if path.is_file()]


def test_nothing_is_seen_before_the_commit_and_all_after(cache: Cache) -> None:
    with cache.stage() as stage:
        for digest, data in BLOBS:
            stage.add(digest, data)
        assert not any(digest in cache for digest, _ in BLOBS)
        assert all(cache.get(digest) is None for digest, _ in BLOBS)
        stage.commit()
        assert all(cache.get(digest) == data for digest, data in BLOBS)
    assert staged_files(cache) == []
    assert cache.info().blobs == len(BLOBS)


def test_leaving_without_a_commit_discards(cache: Cache) -> None:
    with cache.stage() as stage:
        for digest, data in BLOBS:
            stage.add(digest, data)
    assert staged_files(cache) == []
    assert cache.info().blobs == 0
    stage.commit()
    assert cache.info().blobs == 0


def test_an_error_discards(cache: Cache) -> None:
    def fail() -> None:
        with cache.stage() as stage:
            stage.add(*BLOBS[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert BLOBS[0][0] not in cache


def test_wrong_bytes_are_refused(cache: Cache) -> None:
    with cache.stage() as stage:
        with pytest.raises(DigestMismatch):
            stage.add(BLOBS[0][0], BLOBS[1][1])
        stage.commit()
    assert cache.info().blobs == 0


def test_a_stage_can_be_used_after_its_commit(cache: Cache) -> None:
    with cache.stage() as stage:
        stage.add(*BLOBS[0])
        stage.commit()
        stage.add(*BLOBS[1])
        stage.add(*BLOBS[-1])
    assert BLOBS[0][0] in cache
    assert BLOBS[1][0] not in cache
    assert BLOBS[-1][0] not in cache


def test_what_is_there_already_is_not_staged(cache: Cache) -> None:
    cache.put(*BLOBS[-1])
    with cache.stage() as stage:
        stage.add(*BLOBS[-1])
        stage.add(*BLOBS[-2])
        stage.add(*BLOBS[-2])
        assert len(staged_files(cache)) == 1
        stage.commit()
    assert cache.info().blobs == 2


def test_memory_is_bounded(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_module, "MEMORY_BYTES", 3 * SMALL)
    monkeypatch.setattr(stage_module, "BATCH_BYTES", 4 * SMALL)
    with cache.stage() as stage:
        for digest, data in BLOBS[:20]:
            stage.add(digest, data)
        assert stage._values is not None
        assert os.fstat(stage._values.fileno()).st_size >= 16 * SMALL
        stage.commit()
    assert all(cache.get(digest) == data for digest, data in BLOBS[:20])


def test_many_threads_can_add(cache: Cache) -> None:
    with cache.stage() as stage, ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(stage.add, digest, data) for digest, data in BLOBS * 3]:
            future.result()
        stage.commit()
    assert all(cache.get(digest) == data for digest, data in BLOBS)
    assert staged_files(cache) == []
