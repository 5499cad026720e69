"""The lower tier: a directory that is only read, whose every byte is checked before use, and which may fail."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from fusepkg_cache import Algorithm, Cache, Digest, LowerCache, compute_digest

from tests.unit.cache.blobs import LARGE, SMALL, blob, flip

SIZES = [1, SMALL, LARGE]


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """What another machine shares, all of it in files."""
    with Cache(tmp_path / "shared", small_limit_bytes=0) as shared:
        for size in SIZES:
            for algorithm in Algorithm:
                shared.put(*blob(size, algorithm=algorithm))
    return tmp_path / "shared"


@pytest.fixture
def cache(tmp_path: Path, shared: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "cache", lower=shared) as cache:
        yield cache


def file_of(directory: Path, digest: Digest) -> Path:
    (path,) = directory.rglob(digest.hex)
    return path


def contents(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its time of change."""
    return {str(path): (path.stat().st_ctime_ns, path.read_bytes()) for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize("size", SIZES)
def test_13_what_is_missed_is_found_below_and_kept_here(
    cache: Cache, shared: Path, size: int, algorithm: Algorithm
) -> None:
    digest, data = blob(size, algorithm=algorithm)
    before = contents(shared)
    assert digest not in cache
    assert cache.get(digest, own_only=True) is cache.read(digest, 0, 10, own_only=True) is None
    assert cache.get(digest) == data
    assert digest in cache
    assert cache.info().lower_hits == 1
    assert cache.lower is not None
    assert cache.lower.read(digest) == data
    assert cache.info().lower_hits == cache.lower.hits == 2
    shutil.rmtree(shared / "v2" / "blobs")
    assert cache.get(digest) == cache.get(digest, own_only=True) == data
    (shared / "v2" / "index").unlink()
    assert contents(shared).items() <= before.items()


@pytest.mark.parametrize(("offset", "length"), [(0, 10), (100, LARGE), (LARGE - 1, 10), (LARGE, 1), (0, 0)])
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_13_a_part(cache: Cache, size: int, offset: int, length: int) -> None:
    digest, data = blob(size)
    assert cache.lower is not None
    assert cache.lower.read(digest, offset, length) == data[offset : offset + length]
    assert digest not in cache, "the lower tier alone was asked"
    assert cache.read(digest, offset, length) == data[offset : offset + length]


def test_13_another_machines_cache_serves_what_it_keeps_in_files(tmp_path: Path) -> None:
    with Cache(tmp_path / "other") as other:
        other.put(*blob(SMALL))
        other.put(*blob(LARGE))
        with Cache(tmp_path / "cache", lower=tmp_path / "other") as cache:
            assert cache.get(blob(LARGE)[0]) == blob(LARGE)[1]
            assert cache.get(blob(SMALL)[0]) is None


@pytest.mark.parametrize("damage", ["a bit", "cut short", "longer", "empty", "a directory", "a FIFO"])
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_13_a_damaged_blob_is_a_miss_with_one_warning_and_stays(
    cache: Cache, shared: Path, size: int, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    digest, data = blob(size)
    path = file_of(shared, digest)
    path.unlink()
    if damage == "a directory":
        path.mkdir()
    elif damage == "a FIFO":
        os.mkfifo(path)
    else:
        changed = {"a bit": flip(data, size // 2), "cut short": data[:-1], "longer": data + b"!", "empty": b""}
        path.write_bytes(changed[damage])
    for _ in range(3):
        assert cache.get(digest) is None
        assert cache.read(digest, 0, 1) is None
        assert cache.pull(digest) is False
    assert digest not in cache
    assert path.exists()
    assert cache.lower is not None
    if path.is_file():
        assert cache.lower.damaged == 9
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert str(path) in caplog.text
    assert cache.info().verification_failures == 0


def test_13_a_file_of_another_size_is_not_read_at_all(cache: Cache, shared: Path) -> None:
    digest, data = blob(SMALL)
    path = file_of(shared, digest)
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.truncate(1 << 42)
    assert cache.lower is not None
    assert cache.lower.read(digest, size=len(data)) is None
    assert cache.pull(digest, size=len(data)) is False
    assert cache.lower.damaged == 2


def test_13_a_tier_that_vanishes_and_comes_back(cache: Cache, shared: Path, caplog: pytest.LogCaptureFixture) -> None:
    shared.rename(shared.with_name("away"))
    for seed in range(5):
        assert cache.get(blob(SMALL, seed)[0]) is None
    assert len(caplog.records) == 1
    assert str(shared) in caplog.text
    shared.with_name("away").rename(shared)
    assert cache.get(blob(SMALL)[0]) == blob(SMALL)[1]


@pytest.mark.parametrize("there", ["a file", "an empty directory", "nothing"])
def test_13_a_tier_that_is_none(tmp_path: Path, there: str, caplog: pytest.LogCaptureFixture) -> None:
    lower = tmp_path / "lower"
    if there == "a file":
        lower.write_text("")
    elif there == "an empty directory":
        lower.mkdir()
    with Cache(tmp_path / "cache", lower=lower) as cache:
        for size in SIZES:
            assert cache.get(blob(size)[0]) is None
            cache.put(*blob(size))
            assert cache.get(blob(size)[0]) == blob(size)[1]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert str(lower) in caplog.text


AS_NOBODY = """
import logging, os, sys
from pathlib import Path
from fusepkg_cache import Algorithm, Digest, LowerCache
os.setgid(65534), os.setuid(65534)
logging.basicConfig(format="%(levelname)s")
lower = LowerCache(Path(sys.argv[1]))
for name in sys.argv[2:]:
    algorithm, _, value = name.partition(":")
    data = lower.read(Digest(Algorithm(algorithm), bytes.fromhex(value).ljust(32, b"\\0")))
    print(None if data is None else len(data), flush=True)
"""


def as_nobody(shared: Path, *digests: Digest) -> list[str]:
    """What another user gets of each blob; warnings among it."""
    command = [sys.executable, "-c", AS_NOBODY, str(shared), *map(str, digests)]
    done = subprocess.run(command, text=True, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.stdout.split()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_13_another_users_tier_serves_whom_it_lets_in(shared: Path) -> None:
    here = shared.parent
    while here != here.parent:  # the directories of the test are private too
        here.chmod(here.stat().st_mode | 0o011)
        here = here.parent
    strong, weak = blob(SMALL)[0], blob(SMALL, algorithm=Algorithm.CRC64NVME)[0]
    assert as_nobody(shared, strong, strong) == ["WARNING", "None", "None"]
    for path in [shared, *shared.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert as_nobody(shared, strong, weak) == [str(SMALL), str(SMALL)], "root is trusted"
    for path in shared.rglob("*"):
        os.chown(path, 12345, 12345)
    assert as_nobody(shared, strong, weak) == [str(SMALL), "None"], "anybody can make bytes for a weak hash"


def test_13_a_weak_name_is_not_taken_from_a_file_that_others_can_write(shared: Path) -> None:
    strong, weak = blob(SMALL)[0], blob(SMALL, algorithm=Algorithm.CRC64NVME)[0]
    lower = LowerCache(shared)
    for digest in (strong, weak):
        assert lower.read(digest) == blob(SMALL)[1]
        file_of(shared, digest).chmod(0o666)
    assert lower.read(strong) == blob(SMALL)[1]
    assert lower.read(weak) is None


def test_13_checksums_of_other_sources_are_other_blobs(cache: Cache, shared: Path) -> None:
    data = blob(SMALL)[1]
    named = compute_digest(Algorithm.CRC64NVME, data)
    assert cache.get(Digest(Algorithm.CRC64NVME, named.computed + b"\1" * 24)) is None
    assert cache.get(named) == data


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a small disk")
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_13_where_it_cannot_be_kept_it_is_read_all_the_same(tmp_path: Path, shared: Path, size: int) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", disk], check=True)
    try:
        with Cache(disk / "cache", lower=shared) as cache:
            with suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
                while filler.write(bytes(4096)):
                    pass
            digest, data = blob(size)
            assert cache.get(digest) == data
            assert cache.read(digest, 100, 50) == data[100:150]
            assert digest not in cache
            (disk / "filler").unlink()
            assert cache.get(digest) == data
            assert digest in cache
    finally:
        subprocess.run(["umount", disk], check=True)


def test_13_the_tier_below_may_be_the_cache_itself(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache", lower=tmp_path / "cache") as cache:
        digest, data = blob(LARGE)
        cache.put(digest, data)
        assert cache.get(digest) == data
        path = file_of(tmp_path / "cache", digest)
        path.chmod(0o600)
        path.write_bytes(flip(data, 7))
        assert cache.get(digest) is None
