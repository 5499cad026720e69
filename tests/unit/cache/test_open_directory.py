from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest
from fusepkg_cache import Cache, CacheClosed

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


def test_a_child_does_not_guard_its_parents_unfinished_files(tmp_path: Path) -> None:
    staging = tmp_path / "cache" / "v2" / "staging"
    with Cache(tmp_path / "cache") as cache:
        read, write = os.pipe()

        def parent() -> bool:
            cache._directory().unfinished.write([b"a part"])
            forked(child)
            return True

        def child() -> bool:
            os.close(write)
            return os.read(read, 1) == b""  # until the test ends

        assert ended(forked(parent)) == 0  # without finishing the file, as if killed; its child lives
        assert [path for path in staging.rglob("*") if path.is_file()]
        cache.clear()
        assert list(staging.iterdir()) == []
        os.close(read)
        os.close(write)


def test_a_fork_in_the_middle_of_a_change_of_another_thread_keeps_nobody_out(tmp_path: Path) -> None:
    """The child neither waits for the thread it does not have, nor keeps the lock once the change is done."""
    small = blob(SMALL)
    inside, leave = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        inside.set()
        leave.wait()

    with Cache(tmp_path / "cache") as cache:
        cache.put(*small)
        changing = threading.Thread(target=lambda: cache._directory().index.change(hold))
        changing.start()
        inside.wait()
        read, write = os.pipe()

        def child() -> bool:
            found = cache.get(small[0]) == small[1]
            os.read(read, 1)  # until the change is done
            cache.put(*blob(SMALL, 1))
            return found and cache.get(blob(SMALL, 1)[0]) == blob(SMALL, 1)[1]

        process = forked(child)
        leave.set()
        changing.join()
        cache.put(*blob(SMALL, 2))
        os.write(write, b"!")
        assert ended(process) == 0
        os.close(read)
        os.close(write)
        assert cache.get(blob(SMALL, 1)[0]) == blob(SMALL, 1)[1]


def test_a_cache_closed_before_a_fork_can_be_opened_in_the_child(tmp_path: Path) -> None:
    small = blob(SMALL)
    with Cache(tmp_path / "cache") as cache:
        cache.put(*small)

    def works() -> bool:
        with Cache(tmp_path / "cache") as cache:
            return cache.get(small[0]) == small[1]

    assert ended(forked(works)) == 0
