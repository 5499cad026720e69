"""Blobs as plain files: what a lower tier finds, whoever wrote it, and what killed or quarrelling writers leave."""

from __future__ import annotations

import os
import signal
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fusepkg_cache import Algorithm, Cache, CacheUnusable, Digest, PlainFiles, WrongBytes, compute_digest

from tests import trees

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = trees.content("a blob", 300_000)
DIGEST = compute_digest(Algorithm.SHA2_256, DATA)


def pieces_of(data: bytes) -> list[bytes]:
    return [data[at : at + 1000] for at in range(0, len(data), 1000)]


def files_below(directory: Path) -> list[Path]:
    return [path for path in (directory / "v2" / "blobs").rglob("*") if path.is_file()]


def test_what_is_written_is_found_as_a_lower_tier_and_as_a_cache(tmp_path: Path):
    files = PlainFiles(tmp_path / "made" / "shared")
    assert not files.has(DIGEST, len(DATA))
    files.put(DIGEST, pieces_of(DATA), size=len(DATA))
    assert files.has(DIGEST, len(DATA))
    assert not files.has(DIGEST, len(DATA) - 1)
    with Cache(tmp_path / "own", lower=files.directory) as cache:
        assert cache.get(DIGEST) == DATA
        assert cache.info().lower_hits == 1
    with Cache(files.directory) as cache:
        assert cache.get(DIGEST) == DATA


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077], ids=oct)
def test_modes_are_those_of_the_umask(tmp_path: Path, umask: int):
    before = os.umask(umask)
    try:
        PlainFiles(tmp_path / "shared").put(DIGEST, [DATA], size=len(DATA))
    finally:
        os.umask(before)
    (file,) = files_below(tmp_path / "shared")
    assert stat.S_IMODE(file.stat().st_mode) == 0o444 & ~umask
    for directory in (tmp_path / "shared", *file.parents[:4]):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o777 & ~umask, directory


def test_other_bytes_are_refused_and_leave_nothing(tmp_path: Path):
    files = PlainFiles(tmp_path)
    files.put(DIGEST, [DATA], size=len(DATA))
    with pytest.raises(WrongBytes):
        files.put(DIGEST, [DATA, b"more"], size=len(DATA) + 4)
    (file,) = files_below(tmp_path)
    assert file.read_bytes() == DATA, "what was there before stays"
    with pytest.raises(ZeroDivisionError):
        files.put(DIGEST, (DATA for _ in [1 / 0]), size=len(DATA))


def test_a_weak_name_keeps_its_scope(tmp_path: Path):
    computed = compute_digest(Algorithm.CRC64NVME, DATA).computed
    digest = Digest(Algorithm.CRC64NVME, computed + bytes(range(24)))
    PlainFiles(tmp_path / "shared").put(digest, [DATA], size=len(DATA))
    with Cache(tmp_path / "own", lower=tmp_path / "shared") as cache:
        assert cache.get(digest) == DATA


def test_what_a_killed_writer_left_is_used_by_the_next(tmp_path: Path):
    files = PlainFiles(tmp_path)
    if (child := os.fork()) == 0:

        def killed() -> Iterator[bytes]:
            yield DATA[:1000]
            os.kill(os.getpid(), signal.SIGKILL)

        files.put(DIGEST, killed(), size=len(DATA))
        os._exit(1)
    os.waitpid(child, 0)
    (unfinished,) = files_below(tmp_path)
    assert unfinished.suffix == ".part"
    assert not files.has(DIGEST, len(DATA))
    files.put(DIGEST, [DATA], size=len(DATA))
    (file,) = files_below(tmp_path)
    assert file.read_bytes() == DATA


def test_many_may_write_the_same(tmp_path: Path):
    with ThreadPoolExecutor(8) as threads:
        made = [PlainFiles(tmp_path) for _ in range(8)]
        for _ in threads.map(lambda files: files.put(DIGEST, pieces_of(DATA), size=len(DATA)), made * 5):
            pass
    (file,) = files_below(tmp_path)
    assert file.read_bytes() == DATA


def test_a_directory_that_cannot_be_used_is_refused(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(CacheUnusable, match="cannot write to"):
        PlainFiles(tmp_path / "file")
    (tmp_path / "newer" / "v2").mkdir(parents=True)
    (tmp_path / "newer" / "v2" / "VERSION").write_bytes(b"fusepkg-cache 3\n")
    with pytest.raises(CacheUnusable, match="another program"):
        PlainFiles(tmp_path / "newer")
