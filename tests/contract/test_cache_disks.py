"""Clause 10 of ``cache/README.md`` on file systems of our own: disks that fail, and some that lack what others have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fusepkg_cache import Cache, CacheFull, CacheReadOnly, CacheUnusable, verified

from tests.unit.cache.blobs import LARGE, SMALL, blob
from tests.unit.cache.fuse_disk import Disk, mounted
from tests.unit.cache.namespace import in_namespace


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    with mounted(tmp_path_factory.mktemp("failing")) as disk:
        yield disk


@pytest.fixture
def cache(disk: Disk, request: pytest.FixtureRequest) -> Iterator[Cache]:
    with Cache(disk.path / request.node.name) as cache:
        yield cache
        disk.fail()


@pytest.mark.fuse
@pytest.mark.parametrize("failing", [["write"], ["write", "fsync", "read", "open"]], ids="+".join)
def test_10_what_cannot_be_written_is_told_and_the_cache_is_used_again(
    cache: Cache, disk: Disk, failing: list[str]
) -> None:
    kept = [blob(SMALL), blob(LARGE)]
    for digest, data in kept:
        cache.put(digest, data)
    for _ in range(2):
        disk.fail(*failing)
        for digest, data in (blob(SMALL, 1), blob(LARGE, 1)):
            with pytest.raises(CacheUnusable) as caught:
                cache.put(digest, data)
            assert not isinstance(caught.value, CacheFull | CacheReadOnly)
            assert "Input/output error" in str(caught.value)
        with pytest.raises(CacheUnusable):
            cache.put_many([verified(*blob(SMALL, 2)), verified(*blob(SMALL, 3))])
        for digest, data in kept:
            found = cache.get(digest)  # from the kernel's memory, perhaps
            assert found == data or (found is None and "read" in failing)
        disk.fail()
        for digest, data in kept:
            assert cache.get(digest) == data
    for digest, data in (blob(SMALL, 1), blob(LARGE, 1)):
        cache.put(digest, data)
        assert cache.get(digest) == data
    assert cache.verify(repair=True).damaged == ()
    assert cache.info().verification_failures == 0


@pytest.mark.fuse
@pytest.mark.parametrize("failing", ["read", "open"])
def test_10_a_large_blob_that_cannot_be_read_is_a_miss_and_stays(
    cache: Cache, disk: Disk, failing: str, caplog: pytest.LogCaptureFixture
) -> None:
    digest, data = blob(LARGE)
    cache.put(digest, data)
    disk.fail(failing)
    assert cache.get(digest) is None
    assert cache.read(digest, 5, 10) is None
    assert cache.info().errors == 2
    assert caplog.text.count("cannot be read") == 1
    disk.fail()
    assert cache.get(digest) == data
    assert cache.info().verification_failures == 0


@pytest.mark.fuse
def test_10_a_cache_that_cannot_be_opened_can_be_later(disk: Disk) -> None:
    disk.fail("write", "open")
    with pytest.raises(CacheUnusable, match="Input/output error"):
        Cache(disk.path / "later")
    disk.fail()
    with Cache(disk.path / "later") as cache:
        cache.put(*blob(SMALL))
    disk.fail("open")
    with pytest.raises(CacheUnusable, match="Input/output error"):
        Cache(disk.path / "later")
    disk.fail()
    with Cache(disk.path / "later") as cache:
        assert cache.get(blob(SMALL)[0]) == blob(SMALL)[1]


@pytest.mark.fuse
def test_10_a_file_system_that_cannot_map_files_will_do(tmp_path: Path) -> None:
    with mounted(tmp_path, "--no-mmap") as disk, Cache(disk.path / "cache") as cache:
        for size in (SMALL, LARGE):
            cache.put(*blob(size))
            assert cache.get(blob(size)[0]) == blob(size)[1]


WORKS = """
from tests.unit.cache.evicting import shrink
cache = Cache(Path("disk/cache"), max_bytes=3_000_000)
outcomes = {outcome(cache.put, *blob(size, seed)) for size in (SMALL, LARGE) for seed in range(20)}
found = [(cache.get(blob(size, seed)[0]), blob(size, seed)[1]) for size in (SMALL, LARGE) for seed in range(20)]
right = all(got in (None, data) for got, data in found) and any(got for got, _ in found)
cache.pin("a pin", [blob(LARGE, 19)[0]])
cleared = cache.clear().blobs > 0
cache.put(*blob(LARGE, 19))
cache.close()
cache = Cache(Path("disk/cache"))
print(json.dumps(dict(outcomes=sorted(outcomes), right=right, cleared=cleared, again=shrink(cache, 0).blobs,
    blobs=cache.info().blobs, ok=cache.verify().ok)))
"""


@pytest.mark.parametrize(
    "mount",
    [
        "mount -t tmpfs none disk",
        "mkdir a b c && mount -t tmpfs none c && mkdir c/up c/work && mount -t overlay -o "
        "lowerdir=a,upperdir=c/up,workdir=c/work none disk",
        "truncate -s 400m image && mkfs.xfs -q image && mount -o loop image disk",
    ],
    ids=["tmpfs", "overlay", "xfs"],
)
def test_10_other_file_systems_do(tmp_path: Path, mount: str) -> None:
    assert in_namespace(tmp_path, mount, WORKS) == {
        "outcomes": ["done"],
        "right": True,
        "cleared": True,
        "again": 0,
        "blobs": 1,
        "ok": True,
    }
