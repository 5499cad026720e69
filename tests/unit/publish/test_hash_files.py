from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
from fusepkg_cache.digest import MIN_CHUNK_BYTES, Algorithm, combine_chunks, compute_digest

from fusepkg.errors import FileChanged, FolderUnfit
from fusepkg.publish.folder import ScannedFile, scan_folder
from fusepkg.publish.hash import files as hashing
from fusepkg.publish.hash.files import hash_bytes
from fusepkg.publish.hash.files import hash_files as hash_each
from fusepkg.publish.hashes import Hashed
from fusepkg.state.file_identity import SETTLED_NS
from fusepkg.state.hints import Hints
from fusepkg.work.progress import Phase, Progress
from fusepkg.work.threads import StopFlag

MIB = 1 << 20
OLD_S = 1_000_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


def hash_files(files: Sequence[ScannedFile], **options: object) -> list[Hashed]:
    """All hashes, in the order of the files."""
    found: dict[int, Hashed] = {}
    hash_each(files, found.__setitem__, **options)
    return [found[number] for number in range(len(files))]


def scan(folder: Path) -> tuple[ScannedFile, ...]:
    return scan_folder(folder).files


@pytest.mark.parametrize("size", [0, 1, MIN_CHUNK_BYTES - 1, MIN_CHUNK_BYTES, MIN_CHUNK_BYTES + 1, 20 * MIB + 3])
def test_digests_are_those_of_the_format(folder: Path, size: int) -> None:
    data = random.Random(size).randbytes(size)
    (folder / "file").write_bytes(data)
    (hashed,) = hash_files(scan(folder))
    assert hashed.digest == compute_digest(Algorithm.SHA2_256_CHUNKED, data)
    assert hashed == hash_bytes(data)
    assert len(hashed.chunks) == (0 if size <= MIN_CHUNK_BYTES else -(-size // MIN_CHUNK_BYTES))
    if hashed.chunks:
        assert combine_chunks(hashed.chunks) == hashed.digest


def test_a_file_of_several_pieces_of_work_is_put_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_SPAN_BYTES", MIN_CHUNK_BYTES)
    data = random.Random(5).randbytes(33 * MIB)
    (folder / "file").write_bytes(data)
    seen: list[Progress] = []
    (hashed,) = hash_files(scan(folder), progress=seen.append)
    assert hashed == hash_bytes(data)
    assert seen[0] == Progress(Phase.HASH, 0, 1, 0, 33 * MIB)
    assert seen[-1] == Progress(Phase.HASH, 1, 1, 33 * MIB, 33 * MIB)


def test_many_small_files_links_and_empty_directories_keep_their_order(folder: Path) -> None:
    for number in range(300):
        (folder / f"{number:03}").write_bytes(b"%d" % number)
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("000")
    results = hash_files(scan(folder))
    expected = [b"%d" % number for number in range(300)] + [b"", b"000"]
    assert results == [hash_bytes(data) for data in expected]


@pytest.mark.parametrize("change", ["content", "grown", "shrunk", "replaced", "vanished", "link", "fifo"])
def test_a_file_that_is_not_as_scanned_is_named(folder: Path, change: str) -> None:
    path = folder / "changing"
    path.write_bytes(b"before")
    os.utime(path, (OLD_S, OLD_S))
    files = scan(folder)
    if change == "content":
        path.write_bytes(b"after!")
    elif change == "grown":
        path.write_bytes(b"before and after")
        os.utime(path, (OLD_S, OLD_S))
    elif change == "shrunk":
        os.truncate(path, 1)
        os.utime(path, (OLD_S, OLD_S))
    elif change == "replaced":
        (folder / "new").write_bytes(b"after!")
        os.utime(folder / "new", (OLD_S, OLD_S))
        (folder / "new").rename(path)
    else:
        path.rename(folder / "elsewhere")
        if change == "link":
            path.symlink_to("elsewhere")
        elif change == "fifo":
            os.mkfifo(path)
    with pytest.raises((FileChanged, FolderUnfit), match="changing"):
        hash_files(files)


def test_a_file_that_changes_while_it_is_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "changing"
    path.write_bytes(bytes(3 * MIB))
    os.utime(path, (OLD_S, OLD_S))
    files = scan(folder)
    original = os.preadv

    def changing_preadv(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        got = original(descriptor, buffers, offset)
        if offset == MIB:
            with path.open("r+b") as file:
                file.write(b"changed")
        return got

    monkeypatch.setattr(os, "preadv", changing_preadv)
    with pytest.raises(FileChanged, match="changing"):
        hash_files(files)


@pytest.mark.usefixtures("lasting_disk")
def test_an_unchanged_file_is_not_read_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "small").write_bytes(b"small")
    (folder / "large").write_bytes(bytes(9 * MIB))
    hints = Hints(tmp_path / "hints")
    soon = time.time_ns() + 2 * SETTLED_NS
    monkeypatch.setattr(time, "time_ns", lambda: soon)  # the files have been at rest for long
    first = hash_files(scan(folder), hints=hints)

    def no_reading(*_: object) -> int:
        raise AssertionError("a hints file was read")

    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", no_reading)
        assert hash_files(scan(folder), hints=hints) == first
    (folder / "small").write_bytes(b"other")
    assert hash_files(scan(folder), hints=hints) == [first[0], hash_bytes(b"other")]
    hints.close()


@pytest.mark.usefixtures("lasting_disk")
def test_a_file_rewritten_with_its_old_time_is_read_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "file"
    path.write_bytes(b"before")
    os.utime(path, (OLD_S, OLD_S))
    hints = Hints(tmp_path / "hints")
    soon = time.time_ns() + 2 * SETTLED_NS
    monkeypatch.setattr(time, "time_ns", lambda: soon)
    hash_files(scan(folder), hints=hints)
    old_ctime = path.stat().st_ctime_ns
    while path.stat().st_ctime_ns == old_ctime:  # until the kernel's clock has ticked
        path.write_bytes(b"after!")
        os.utime(path, (OLD_S, OLD_S))
    assert hash_files(scan(folder), hints=hints) == [hash_bytes(b"after!")]
    hints.close()


@pytest.mark.usefixtures("lasting_disk")
def test_what_was_hashed_before_a_failure_is_hints(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "_BATCH_FILES", 1)
    monkeypatch.setattr(hashing, "HASH_THREADS", 1)
    (folder / "a").write_bytes(b"a")
    (folder / "b").write_bytes(b"b")
    files = scan(folder)
    (folder / "b").write_bytes(b"bb")
    hints = Hints(tmp_path / "hints")
    soon = time.time_ns() + 2 * SETTLED_NS
    monkeypatch.setattr(time, "time_ns", lambda: soon)
    with pytest.raises(FileChanged):
        hash_files(files, hints=hints)
    assert list(hints.chunk_hashes([file.identity for file in files])) == [files[0].identity]
    hints.close()


def test_a_stop_flag_ends_hashing(folder: Path) -> None:
    (folder / "file").write_bytes(bytes(MIB))
    stop = StopFlag()
    stop.set()
    with pytest.raises(CancelledError):
        hash_files(scan(folder), stop=stop)
