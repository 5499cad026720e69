"""Clauses 7 and 10 of ``cache/README.md``: killed processes; disks that are full, read-only or out of reach."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from fusepkg_cache import Cache, CacheUnusable

from tests.unit.cache.blobs import LARGE, SMALL, blob
from tests.unit.cache.busy import BUSY
from tests.unit.cache.namespace import in_namespace
from tests.unit.cache.peer import Peer

ROOT = Path(__file__).parents[2]

KILLS = 15


def test_7_kill_9_loses_nothing_that_was_put(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    chance = random.Random(7)
    told: list[tuple[int, ...]] = []
    for kill in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-c", BUSY, str(directory), str(kill * 10_000)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        ) as busy:
            assert busy.stdout is not None
            lines = [busy.stdout.readline() for _ in range(chance.randrange(1, 40))]
            busy.kill()
            lines += busy.stdout.readlines()
        told += [tuple(map(int, line.split())) for line in lines if line.endswith("\n")]
        with Cache(directory) as cache:
            found = cache.verify()
            assert found.ok
            assert not found.missing
            assert cache.info().verification_failures == 0
            assert cache.info().small_bytes + sum(os.stat(path).st_size for path in files(directory)) == found.bytes
    with Cache(directory) as cache:
        cache.put(*blob(LARGE, -1))  # sweeps
        assert len(list((directory / "v2" / "staging").iterdir())) == 1
        for size, seed in told:
            digest, data = blob(size, seed)
            assert cache.get(digest) == data


def files(directory: Path) -> list[Path]:
    return [path for path in (directory / "v2" / "blobs").rglob("*") if path.is_file()]


def test_7_a_process_that_dies_in_the_middle_does_not_keep_others_out(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache") as cache:
        with Peer() as peer:
            peer.call("open", str(tmp_path / "cache"))
            peer.call("leave_unfinished", *blob(LARGE))
            peer.call("put", *blob(SMALL))
            peer.call("die")
        cache.put(*blob(SMALL, 2))
        assert cache.get(blob(SMALL)[0]) == blob(SMALL)[1]
        assert cache.get(blob(LARGE)[0]) is None


# --- 10: failing disks. Real ones, in a mount namespace that ends with the process.


EXT4 = "truncate -s 8m image && mkfs.ext4 -q -m 0 -O ^has_journal image && mount -o loop image disk"


@pytest.mark.parametrize("mount", ["mount -t tmpfs -o size=3m none disk", EXT4], ids=["tmpfs", "ext4"])
def test_10_a_full_disk(tmp_path: Path, mount: str) -> None:
    found = in_namespace(
        tmp_path,
        mount,
        """
Path("disk/of somebody else").write_bytes(bytes(1_000_000))
cache = Cache(Path("disk/cache"))
kept = []
outcomes = {}
for size in (LARGE, SMALL):
    for seed in range(400):
        said = outcome(cache.put, *blob(size, seed))
        if said != "done":
            outcomes[size] = said
            break
        kept.append((size, seed))
whole = all(cache.get(blob(*which)[0]) == blob(*which)[1] for which in kept)
refused = outcome(cache.put, *blob(SMALL, 1000))
several = outcome(cache.put_many, [verified(*blob(size, 2000)) for size in (LARGE, SMALL)])
new = outcome(Cache, Path("disk/another"))
Path("disk/of somebody else").unlink()
for which in ((LARGE, 3000), (SMALL, 3000)):
    kept.append(which)
    recovered = outcome(cache.put, *blob(*which))
cache.close()
cache = Cache(Path("disk/cache"))
again = all(cache.get(blob(*which)[0]) == blob(*which)[1] for which in kept)
left = [path.name for path in Path("disk/cache/v2/staging").rglob("*") if path.is_file()]
cleared = cache.clear().blobs
after = [outcome(cache.put, *blob(LARGE, 5)), outcome(cache.put, *blob(SMALL, 5))]
print(json.dumps(dict(large=outcomes.get(LARGE), small=outcomes.get(SMALL), kept=len(kept), whole=whole, again=again,
    refused=refused, recovered=recovered, several=several, new=new, left=left, cleared=cleared, after=after,
    ok=cache.verify().ok)))
""",
    )
    assert found["large"] == found["small"] == found["refused"] == found["several"] == found["new"] == "CacheFull"
    assert found["whole"] is found["again"] is found["ok"] is True
    assert found["recovered"] == "done"
    assert found["left"] == []
    assert found["cleared"] == found["kept"]
    assert found["after"] == ["done", "done"]


def test_10_a_floor_of_free_space_is_kept(tmp_path: Path) -> None:
    found = in_namespace(
        tmp_path,
        "mount -t tmpfs -o size=20m none disk",
        """
import os, time
FLOOR = 6_000_000
def free():
    disk = os.statvfs("disk")
    return disk.f_bavail * disk.f_frsize
cache = Cache(Path("disk/cache"), min_free_bytes=FLOOR)
def settle():
    while cache._directory().bound._target() is not None:  # until there is nothing more to do
        cache._directory().bound.step()
for seed in range(100):
    cache.put(*blob(LARGE, seed))
settle()
filled = free()
Path("disk/of somebody else").write_bytes(bytes(3_000_000))
cache.put(*blob(SMALL, 0))
settle()
gave_way = free()
left = cache.info().large_blobs
from tests.unit.cache.evicting import shrink
shrink(cache, 0)
outcomes = {outcome(cache.put, *blob(SMALL, seed)) for seed in range(1500)}  # LMDB uses its own free pages again
settle()
small = free()
Path("disk/of somebody else too").write_bytes(bytes(small - FLOOR + 1_000_000))
before = cache.info().small_blobs
cache.put(*blob(SMALL, 2000))
settle()  # a megabyte of free pages is all it can give
print(json.dumps(dict(filled=filled - FLOOR, gave_way=gave_way - FLOOR, left=left, outcomes=sorted(outcomes),
    small=small - FLOOR, dropped=before - cache.info().small_blobs, ok=cache.verify().ok)))
""",
    )
    assert 0 <= found["filled"] < 2 * LARGE  # type: ignore[operator]
    assert 0 <= found["gave_way"] < 2 * LARGE  # type: ignore[operator]
    assert found["left"] > 5  # type: ignore[operator]
    assert found["outcomes"] == ["done"]
    assert found["small"] > -1_000_000  # type: ignore[operator]
    assert 0 < found["dropped"] < 200  # type: ignore[operator]
    assert found["ok"] is True


def test_10_a_disk_that_became_read_only(tmp_path: Path) -> None:
    found = in_namespace(
        tmp_path,
        "mount -t tmpfs none disk",
        """
import subprocess
directory = Path("disk/cache")
cache = Cache(directory)
cache.put(*blob(SMALL))
cache.put(*blob(LARGE))
subprocess.run(["mount", "--bind", directory, directory], check=True)  # over the one whose files are open
subprocess.run(["mount", "-o", "remount,bind,ro", directory], check=True)
reads = [cache.get(blob(size)[0]) == blob(size)[1] for size in (SMALL, LARGE)]
put = outcome(cache.put, *blob(LARGE, 1))
removed = outcome(cache.remove, blob(LARGE)[0])
cleared = outcome(cache.clear)
subprocess.run(["mount", "-o", "remount,bind,rw", directory], check=True)
recovered = [outcome(cache.put, *blob(size, 2)) for size in (SMALL, LARGE)]
recovered.append(cache.get(blob(LARGE, 2)[0]) == blob(LARGE, 2)[1])
subprocess.run(["mount", "-o", "remount,bind,ro", directory], check=True)
cache.close()
opened = outcome(Cache, directory)
print(json.dumps(dict(reads=reads, put=put, removed=removed, cleared=cleared, opened=opened,
    recovered=recovered)))
""",
    )
    assert found["reads"] == [True, True]
    assert found["recovered"] == ["done", "done", True]
    assert {found[call] for call in ("put", "removed", "cleared", "opened")} == {"CacheReadOnly"}


def test_10_a_read_that_fails_is_a_miss_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small, large = blob(SMALL), blob(LARGE)
    with Cache(tmp_path / "cache") as cache:
        cache.put(*small)
        cache.put(*large)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))  # no file can be opened
        try:
            assert cache.get(large[0]) is None
            assert cache.read(large[0], 0, 5) is None
            assert cache.get(small[0]) == small[1]
            with pytest.raises(CacheUnusable):
                cache.put(*blob(LARGE, 1))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert cache.info().errors == 2
        assert caplog.text.count("cannot be read") == 1
        assert cache.get(large[0]) == large[1]
