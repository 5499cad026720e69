from __future__ import annotations

import os
from pathlib import Path

import pytest
from fusepkg_cache import Cache, CacheClosed, CacheUnusable

from tests.unit.cache.blobs import LARGE, SMALL, blob


def in_child(test: object) -> int:
    """What a forked child found: 0 where ``test()`` held."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if test() else 2  # type: ignore[operator]
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


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


def test_closing_twice_lets_go_once(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache") as first, Cache(tmp_path / "cache") as second:
        first.close()
        first.close()
        assert second.get(blob(SMALL)[0]) is None


def test_a_forked_child_is_told_and_the_parent_goes_on(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    small, large = blob(SMALL), blob(LARGE)
    cache.put(*small)
    cache.close()
    with Cache(tmp_path / "cache") as cache:
        assert cache.get(small[0]) == small[1]  # no writer thread yet: forking with threads is the caller's risk
        stage = cache.stage()

        def refused() -> bool:
            calls = (
                lambda: cache.get(small[0]),
                lambda: cache.put(*large),
                lambda: stage.add(*large),
                lambda: Cache(tmp_path / "cache"),
            )
            for call in calls:
                try:
                    call()
                except CacheUnusable as exc:
                    if "fork" not in str(exc):
                        return False
                else:
                    return False
            cache.close()
            return True

        assert in_child(refused) == 0
        cache.put(*large)
        assert cache.get(small[0]) == small[1]
        assert cache.get(large[0]) == large[1]


def test_a_cache_closed_before_a_fork_can_be_opened_in_the_child(tmp_path: Path) -> None:
    small = blob(SMALL)
    with Cache(tmp_path / "cache") as cache:
        cache.put(*small)

    def works() -> bool:
        with Cache(tmp_path / "cache") as cache:
            return cache.get(small[0]) == small[1]

    assert in_child(works) == 0
