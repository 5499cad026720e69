from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest
from fusepkg_cache import Cache, CacheClosed, CacheUnusable, session

from tests.unit.cache.blobs import LARGE, SMALL, blob
from tests.unit.cache.forks import ended, forked


def test_two_objects_of_one_process_share_what_is_open(tmp_path: Path) -> None:
    (tmp_path / "other").symlink_to("cache")
    first, second = Cache(tmp_path / "cache"), Cache(tmp_path / "other")
    digest, data = blob(SMALL)
    first.put(digest, data)
    assert second.get(digest) == data
    first.close()
    assert second.get(digest) == data
    with pytest.raises(CacheClosed):
        first.get(digest)
    second.close()
    with Cache(tmp_path / "cache") as third:
        assert third.get(digest) == data


def test_a_second_object_joins_the_first_though_the_directory_was_removed_and_made_anew(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache") as first:
        first.put(*blob(SMALL))
        shutil.rmtree(tmp_path / "cache")
        first.put(*blob(SMALL, 1))
        with Cache(tmp_path / "cache") as second:
            assert second.get(blob(SMALL, 1)[0]) == blob(SMALL, 1)[1]
        assert first.get(blob(SMALL, 1)[0]) == blob(SMALL, 1)[1]


def test_closing_twice_lets_go_once(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache") as first, Cache(tmp_path / "cache") as second:
        first.close()
        first.close()
        assert second.get(blob(SMALL)[0]) is None


def test_a_cache_can_be_used_on_both_sides_of_a_fork(tmp_path: Path) -> None:
    small, large = blob(SMALL), blob(LARGE)
    with Cache(tmp_path / "cache") as cache:
        cache.put(*small)  # from here on there is a writer thread

        def works() -> bool:
            cache.put(*blob(SMALL, 5))
            cache.put(*blob(LARGE, 5))
            found = cache.get(small[0]) == small[1]
            with Cache(tmp_path / "cache") as another:
                found = found and another.get(blob(LARGE, 5)[0]) == blob(LARGE, 5)[1]
            cache.close()
            try:
                cache.get(small[0])
            except CacheClosed:
                return found
            return False

        assert ended(forked(works)) == 0
        cache.put(*large)
        for digest, data in (small, large, blob(SMALL, 5), blob(LARGE, 5)):
            assert cache.get(digest) == data
        assert cache.info().errors == 0


def test_what_a_child_holds_does_not_depend_on_its_parent(tmp_path: Path) -> None:
    """A grandchild goes on with the cache of a child that was killed."""
    small = blob(SMALL)
    with Cache(tmp_path / "cache") as cache:
        cache.put(*small)

        def child() -> bool:
            cache.put(*blob(SMALL, 1))
            return ended(forked(grandchild)) == 0

        def grandchild() -> bool:
            cache.put(*blob(SMALL, 2))
            return all(cache.get(blob(SMALL, seed)[0]) == blob(SMALL, seed)[1] for seed in range(3))

        assert ended(forked(child)) == 0
        assert cache.get(blob(SMALL, 2)[0]) == blob(SMALL, 2)[1]


def test_a_stage_stays_with_the_process_that_began_it(tmp_path: Path) -> None:
    large = blob(LARGE)
    with Cache(tmp_path / "cache") as cache, cache.stage() as stage:
        stage.add(*large)

        def refused() -> bool:
            for call in (lambda: stage.add(*blob(LARGE, 1)), stage.commit):
                try:
                    call()
                except CacheUnusable as exc:
                    if "forked" not in str(exc):
                        return False
                else:
                    return False
            with stage:
                pass  # nothing of the parent's is discarded
            cache.put(*blob(LARGE, 2))
            cache.close()
            return True

        assert ended(forked(refused)) == 0
        stage.commit()
        assert cache.get(large[0]) == large[1]


def test_a_child_does_not_guard_its_parents_unfinished_files(tmp_path: Path) -> None:
    staging = tmp_path / "cache" / "v1" / "staging"
    with Cache(tmp_path / "cache") as cache:
        read, write = os.pipe()

        def parent() -> bool:
            stage = cache.stage()
            stage.add(*blob(LARGE))
            forked(child)
            return True

        def child() -> bool:
            os.close(write)
            return os.read(read, 1) == b""  # until the test ends

        assert ended(forked(parent)) == 0  # without leaving the stage, as if killed; its child lives
        assert [path for path in staging.rglob("*") if path.is_file()]
        cache.clear()
        assert list(staging.iterdir()) == []
        os.close(read)
        os.close(write)


def test_a_fork_does_not_wait_for_ever_for_a_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the child cannot have this cache, and is told."""
    monkeypatch.setattr(session, "_FORK_PATIENCE_S", 0.01)
    small = blob(SMALL)
    inside, leave = threading.Event(), threading.Event()

    def look(*_: object) -> None:
        inside.set()
        leave.wait()

    with Cache(tmp_path / "cache") as cache:
        cache.put(*small)
        looking = threading.Thread(target=lambda: cache._session().environment.view(look))
        looking.start()
        inside.wait()

        def refused() -> bool:
            try:
                cache.put(*blob(SMALL, 1))
            except CacheUnusable:
                return cache.get(small[0]) is None
            return False

        child = forked(refused)
        leave.set()
        looking.join()
        assert ended(child) == 0
        assert cache.get(small[0]) == small[1]


def test_a_cache_closed_before_a_fork_can_be_opened_in_the_child(tmp_path: Path) -> None:
    small = blob(SMALL)
    with Cache(tmp_path / "cache") as cache:
        cache.put(*small)

    def works() -> bool:
        with Cache(tmp_path / "cache") as cache:
            return cache.get(small[0]) == small[1]

    assert ended(forked(works)) == 0
