"""A process that is stopped (Ctrl-Z) in the middle of a change keeps the lock: nobody waits for ever."""

from __future__ import annotations

from pathlib import Path

import pytest
from fusepkg_cache import Cache, CacheUnusable, open_directory, recency, write_lock

from tests.unit.cache.blobs import LARGE, SMALL, blob
from tests.unit.cache.stopped import stopped

SMALL_BLOB, LARGE_BLOB, OTHER = blob(SMALL), blob(LARGE), blob(SMALL, 1)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_lock, "PATIENCE_S", 0.2)
    monkeypatch.setattr(open_directory, "CLOSE_PATIENCE_S", 0.2)


def test_10_what_is_open_reads_on_and_puts_again_later(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache") as cache:
        cache.put(*SMALL_BLOB)
        with stopped(cache.directory):
            with pytest.raises(CacheUnusable, match="stopped"):
                cache.put(*OTHER)
            with pytest.raises(CacheUnusable, match="stopped"):
                cache.put(*LARGE_BLOB)
            for change in (cache.clear, lambda: cache.retain([]), lambda: cache.pin("a", [])):
                with pytest.raises(CacheUnusable, match="stopped"):
                    change()
            assert cache.get(SMALL_BLOB[0]) == SMALL_BLOB[1]
            assert cache.get(LARGE_BLOB[0]) in (None, LARGE_BLOB[1])
            assert cache.info().small_blobs == 1
        cache.put(*OTHER)
        assert cache.get(OTHER[0]) == OTHER[1]


def test_10_opening_and_closing_end_and_work_again_later(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    cache.put(*SMALL_BLOB)
    with stopped(cache.directory):
        cache.get(SMALL_BLOB[0])  # a use, to be written when the cache is closed
        cache.close()
        for _ in range(2):
            with pytest.raises(CacheUnusable, match="stopped"):
                Cache(cache.directory)
    with Cache(cache.directory) as again:
        assert again.get(SMALL_BLOB[0]) == SMALL_BLOB[1]
        assert again.info().small_hits == 1, "what could not be written in time is lost"


def test_10_opening_first_ends_and_works_again_later(tmp_path: Path) -> None:
    Cache(tmp_path / "cache").close()
    with stopped(tmp_path / "cache"):
        for _ in range(2):
            with pytest.raises(CacheUnusable, match="stopped"):
                Cache(tmp_path / "cache")
    for _ in range(1000):  # until the thread that waits for the lock has let go
        try:
            cache = Cache(tmp_path / "cache")
        except CacheUnusable:
            continue
        break
    with cache:
        cache.put(*SMALL_BLOB)


def test_10_uses_do_not_pile_up_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recency, "NOTES", 2)
    blobs = [blob(100, seed) for seed in range(20)]
    with Cache(tmp_path / "cache") as cache:
        for digest, data in blobs:
            cache.put(digest, data)
        with stopped(cache.directory):
            for digest, data in blobs:
                assert cache.get(digest) == data
            assert len(list(cache._directory().recency.noted)) <= 4
