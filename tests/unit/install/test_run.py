"""A package in a directory: what is fetched, what stays, and what is there when it goes wrong."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import threading
from contextlib import closing
from pathlib import Path

import pytest
from fusepkg_cache import Cache
from fusepkg_cache.digest import MIN_CHUNK_BYTES, Algorithm

from fusepkg.errors import DigestMismatch, InstallError, RemoteUnavailable
from fusepkg.install.repair import force_to_match
from fusepkg.install.run import install
from fusepkg.model.times import FIXED_S, entry_time_s
from fusepkg.state.install_record import installed_at
from fusepkg.store.faulty import Fault, Gate, flip
from fusepkg.work.progress import Phase, Progress
from tests.unit.install.conftest import Shop, digest_of

LARGE = b"".join(bytes([number]) * MIN_CHUNK_BYTES for number in range(3)) + b"the end"


def test_every_kind_of_entry_is_there_as_a_mount_shows_it(shop: Shop) -> None:
    index = shop.version(
        shop.file("README.md", b"# Data\n"),
        shop.file("bin/run.sh", b"#!/bin/sh\n", executable=True),
        shop.file("empty", b""),
        shop.file("train/1.jpg", b"one"),
        shop.link("train/latest", "1.jpg"),
        shop.empty("nothing/here"),
        shop.file("train/große+%#.txt", b"name"),
    )
    report = shop.install(index)
    assert shop.found() == {
        "README.md": b"# Data\n",
        "bin/run.sh": b"#!/bin/sh\n",
        "empty": b"",
        "nothing/here": "",
        "train/1.jpg": b"one",
        "train/große+%#.txt": b"name",
        "train/latest": "-> 1.jpg",
    }
    assert os.access(shop.directory / "bin/run.sh", os.X_OK)
    assert not (shop.directory / "README.md").stat().st_mode & 0o111
    assert (report.written, report.there, report.kept) == (7, 0, ())
    shop.fetched()

    report = shop.install(index)
    assert (report.written, report.there, shop.fetched()) == (0, 7, [])


def test_only_what_is_missing_or_changed_is_fetched_and_what_the_user_did_stays(shop: Shop) -> None:
    same, old, edited = shop.file("same", b"same"), shop.file("a/old", b"old"), shop.file("a/edited", b"as it was")
    gone, lost = shop.file("gone", b"no longer in the package"), shop.file("lost", b"removed by the user")
    shop.install(shop.version(same, old, edited, gone, lost))
    (shop.directory / "a/edited").write_bytes(b"edited")
    (shop.directory / "mine").write_bytes(b"mine")
    (shop.directory / "lost").unlink()
    shop.fetched()

    report = shop.install(shop.version(same, shop.file("a/old", b"new"), shop.file("a/edited", b"other"), lost))
    assert shop.fetched() == ["a/old", "lost"]
    assert shop.found() == {
        "a/edited": b"edited",
        "a/old": b"new",
        "gone": b"no longer in the package",
        "lost": b"removed by the user",
        "mine": b"mine",
        "same": b"same",
    }
    assert report.kept == ("a/edited",)


def test_a_file_that_was_only_touched_is_not_the_users(shop: Shop) -> None:
    shop.install(shop.version(shop.file("a", b"old"), shop.file("b", b"same")))
    os.utime(shop.directory / "a", (0, 0))
    os.utime(shop.directory / "b", (0, 0))
    shop.fetched()
    assert shop.install(shop.version(shop.file("a", b"new"), shop.file("b", b"same"))).kept == ()
    assert shop.fetched() == ["a"]
    assert shop.found() == {"a": b"new", "b": b"same"}


def test_without_its_record_files_are_hashed_not_fetched_and_strange_ones_stay(shop: Shop) -> None:
    index = shop.version(shop.file("a", b"one"), shop.file("b", b"two"), shop.link("c", "a"))
    shop.install(index)
    shutil.rmtree(shop.data_dir)
    (shop.directory / "b").write_bytes(b"TWO")
    shop.fetched()
    report = shop.install(index)
    assert (report.there, report.kept, shop.fetched()) == (2, ("b",), [])


def test_a_damaged_record_is_as_none(shop: Shop) -> None:
    index = shop.version(*(shop.file(f"{number:03}", b"one") for number in range(200)))
    shop.install(index)
    (path,) = (shop.data_dir / "installed").iterdir()
    path.write_bytes(b"not a database" * 1000)
    assert installed_at(shop.data_dir, shop.directory) is None
    assert shop.install(index).there == 200
    assert installed_at(shop.data_dir, shop.directory) is not None
    with path.open("r+b") as file:
        file.seek(3 * 4096)  # a page of the table of files
        file.write(b"\xff" * 3 * 4096)
    assert shop.install(index).there == 200


def test_bytes_that_stay_become_executable_without_being_fetched(shop: Shop) -> None:
    shop.install(shop.version(shop.file("run", b"#!/bin/sh\n")))
    shop.fetched()
    assert shop.install(shop.version(shop.file("run", b"#!/bin/sh\n", executable=True))).kept == ()
    assert os.access(shop.directory / "run", os.X_OK)
    shop.install(shop.version(shop.file("run", b"#!/bin/sh\n")))
    assert stat.S_IMODE((shop.directory / "run").stat().st_mode) & 0o111 == 0
    assert shop.fetched() == []


def test_kinds_change_from_version_to_version(shop: Shop) -> None:
    shop.install(shop.version(shop.file("a", b"file"), shop.link("b", "a"), shop.link("c", "a")))
    shop.install(shop.version(shop.link("a", "b"), shop.file("b", b"file"), shop.link("c", "b")))
    assert shop.found() == {"a": "-> b", "b": b"file", "c": "-> b"}


@pytest.mark.usefixtures("lasting_disk")
def test_what_a_power_cut_took_is_fetched_again(shop: Shop) -> None:
    index = shop.version(shop.file("a", b"one"))
    shop.install(index)
    times = (shop.directory / "a").stat()
    os.truncate(shop.directory / "a", 0)
    os.utime(shop.directory / "a", ns=(times.st_atime_ns, times.st_mtime_ns))
    with closing(sqlite3.connect(next(shop.data_dir.rglob("*.sqlite")))) as record, record:
        record.execute("UPDATE files SET ctime_ns = ?", ((shop.directory / "a").stat().st_ctime_ns,))
    assert shop.install(index).kept == ()
    assert shop.found() == {"a": b"one"}


def test_a_file_written_in_place_stays_although_its_time_was_set_back(shop: Shop) -> None:
    index = shop.version(shop.file("a", b"one"))
    shop.install(index)
    times = (shop.directory / "a").stat()
    (shop.directory / "a").write_bytes(b"mine, and longer")
    os.utime(shop.directory / "a", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert shop.install(index).kept == ("a",)
    assert shop.found() == {"a": b"mine, and longer"}


# --- nothing leaves the directory ------------------------------------------------------------------------------


def test_a_directory_that_is_a_link_is_not_followed(shop: Shop, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "1.jpg").write_bytes(b"somebody else's")
    shop.directory.mkdir()
    (shop.directory / "train").symlink_to(outside)
    report = shop.install(
        shop.version(shop.file("train/1.jpg", b"one"), shop.file("train/a/2.jpg", b"two"), shop.file("z", b"z"))
    )
    assert report.kept == ("train/1.jpg", "train/a/2.jpg")
    assert [path.name for path in outside.iterdir()] == ["1.jpg"]
    assert (outside / "1.jpg").read_bytes() == b"somebody else's"
    assert (shop.directory / "z").read_bytes() == b"z"


def test_a_file_that_is_a_link_is_not_written_through(shop: Shop, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"somebody else's")
    shop.directory.mkdir()
    (shop.directory / "a").symlink_to(outside)
    assert shop.install(shop.version(shop.file("a", b"one"))).kept == ("a",)
    assert outside.read_bytes() == b"somebody else's"


def test_what_the_user_put_where_a_directory_would_be_stays(shop: Shop) -> None:
    shop.directory.mkdir()
    (shop.directory / "a").write_bytes(b"a file")
    (shop.directory / "b").mkdir()
    os.mkfifo(shop.directory / "c")
    index = shop.version(shop.file("a/1", b"one"), shop.file("b", b"two"), shop.file("c", b"three"), shop.empty("a/d"))
    assert shop.install(index).kept == ("a/1", "a/d/.fusepkg-empty-directory", "b", "c")


@pytest.mark.parametrize("there", ["a file", "a file above it"])
def test_a_target_that_cannot_be_written_into(shop: Shop, there: str) -> None:
    (shop.directory if there == "a file" else shop.directory.parent / "data").write_bytes(b"")
    with pytest.raises(InstallError):
        shop.install(shop.version(shop.file("a", b"one")))


def test_one_install_at_a_time(shop: Shop) -> None:
    index, gate = shop.version(shop.file("a", b"one")), Gate()
    shop.store.add(Fault("get", gate=gate))
    first = threading.Thread(target=shop.install, args=(index,))
    first.start()
    try:
        gate.wait_reached()
        with pytest.raises(InstallError, match="another install"):
            shop.install(index)
    finally:
        gate.open()
        first.join()
    assert shop.found() == {"a": b"one"}


# --- what goes wrong -------------------------------------------------------------------------------------------


def test_an_install_that_was_cut_off_goes_on_where_it_stopped(shop: Shop) -> None:
    index = shop.version(*(shop.file(f"{number:03}", b"%d" % number) for number in range(100)))
    shop.store.add(Fault("get", skip=50, error=RemoteUnavailable("down"), times=None))
    with pytest.raises(RemoteUnavailable):
        shop.install(index)
    there = {name: data for name, data in shop.found().items() if not name.startswith(".")}
    assert 0 < len(there) < 100
    assert all(data == b"%d" % int(name) for name, data in there.items())
    installed = installed_at(shop.data_dir, shop.directory)
    assert installed is not None
    assert not installed.is_complete

    shop.store.plan.clear()
    shop.fetched()
    shop.install(index)
    assert len(shop.fetched()) == 100 - len(there)
    assert list(shop.found()) == [f"{number:03}" for number in range(100)]
    installed = installed_at(shop.data_dir, shop.directory)
    assert installed is not None
    assert (installed.reference, installed.top_hash, installed.is_complete) == ("bucket/data:v1", index.top_hash, True)


def test_an_interrupt_leaves_whole_files_and_what_was_done_is_remembered(shop: Shop) -> None:
    index = shop.version(*(shop.file(f"{number:03}", b"%d" % number) for number in range(200)), shop.file("x", LARGE))

    def interrupt(progress: Progress) -> None:
        if progress.done == 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        install(index, "bucket/data:v1", shop.directory, shop.origin, shop.data_dir, progress=interrupt)
    there = {name: data for name, data in shop.found().items() if not name.startswith(".")}
    assert 50 <= len(there) < 200
    assert all(data == b"%d" % int(name) for name, data in there.items())
    shop.fetched()
    assert shop.install(index).kept == ()
    assert len(shop.fetched()) == 200 - len(there) + 4
    assert not [name for name in shop.found() if name.startswith(".")]


@pytest.mark.parametrize("algorithm", [Algorithm.SHA2_256_CHUNKED, Algorithm.SHA2_256, Algorithm.CRC64NVME])
def test_a_large_file_is_whole(shop: Shop, algorithm: Algorithm) -> None:
    seen: list[Progress] = []
    index = shop.version(shop.file("large", LARGE, algorithm=algorithm), shop.file("a", b"one"))
    install(index, "bucket/data:v1", shop.directory, shop.origin, shop.data_dir, progress=seen.append)
    assert shop.found() == {"a": b"one", "large": LARGE}
    assert seen[0] == Progress(Phase.DOWNLOAD, 0, 2, 0, len(LARGE) + 3)
    assert seen[-1] == Progress(Phase.DOWNLOAD, 2, 2, len(LARGE) + 3, len(LARGE) + 3)


def test_a_large_file_goes_on_at_the_chunk_where_it_stopped(shop: Shop) -> None:
    index = shop.version(shop.file("large", LARGE))
    shop.store.add(
        Fault("get", key=index.entries.entry(0).physical_key.key, skip=2, times=None, error=RemoteUnavailable(""))
    )
    with pytest.raises(RemoteUnavailable):
        shop.install(index)
    assert "large" not in shop.found()
    shop.store.plan.clear()
    done = shop.fetched()
    shop.install(index)
    assert 0 < len(shop.fetched()) < 4
    assert len(done) > 0
    assert shop.found() == {"large": LARGE}


@pytest.mark.parametrize("chunk_list", [True, False])
@pytest.mark.parametrize("data", [b"small", LARGE])
def test_wrong_bytes_never_get_the_files_name(shop: Shop, data: bytes, chunk_list: bool) -> None:
    index = shop.version(shop.file("a", data, chunk_list=chunk_list))
    key = index.entries.entry(0).physical_key.key
    shop.store.add(Fault("get", key=key, spoil=flip(1), times=None))
    with pytest.raises(DigestMismatch):
        shop.install(index)
    assert "a" not in shop.found()
    shop.store.plan.clear()
    if len(data) < 100:
        shop.store.add(Fault("get", key=key, spoil=flip(1), times=1))  # the damage was in the transfer
    shop.install(index)
    assert shop.found() == {"a": data}


def test_a_full_disk_leaves_whole_files_only(shop: Shop, tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("a small disk needs root")
    shop.directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", shop.directory], check=True)
    try:
        index = shop.version(*(shop.file(f"{number}", bytes([number]) * 100_000) for number in range(20)))
        with pytest.raises(InstallError, match="No space left"):
            shop.install(index)
        found = shop.found()
        assert 0 < len(found) < 20
        assert all(data == bytes([int(name)]) * 100_000 for name, data in found.items())
    finally:
        subprocess.run(["umount", shop.directory], check=True)


def test_what_the_cache_has_is_not_fetched(shop: Shop, tmp_path: Path) -> None:
    index = shop.version(shop.file("a", b"one"), shop.file("b", b"two"))
    with Cache(tmp_path / "cache") as shop.cache:
        shop.cache.put(digest_of(b"one"), b"one")
        shop.install(index)
        assert shop.fetched() == ["b"]
        assert digest_of(b"two") not in shop.cache


def test_a_new_directory_of_the_same_name_has_no_record(shop: Shop) -> None:
    index = shop.version(shop.file("a", b"one"))
    shop.install(index)
    shop.directory.rename(shop.directory.with_name("moved"))
    shop.directory.mkdir()
    (shop.directory / "a").write_bytes(b"mine")
    assert installed_at(shop.data_dir, shop.directory) is None
    assert shop.install(index).kept == ("a",)


def test_files_and_links_have_the_time_of_their_content(shop: Shop) -> None:
    large = shop.file("large", LARGE)
    entries = (shop.file("a", b"one"), shop.file("run", b"two", executable=True), large, shop.link("l", "a"))
    shop.install(shop.version(*entries))
    for entry in entries:
        assert (shop.directory / entry.logical_key).lstat().st_mtime_ns == entry_time_s(entry) * 10**9
    shop.install(shop.version(shop.file("a", b"ONE"), *entries[1:]))
    assert (shop.directory / "a").lstat().st_mtime_ns != entry_time_s(entries[0]) * 10**9


def test_what_is_written_has_the_one_time_that_was_asked_for(shop: Shop) -> None:
    index = shop.version(shop.file("a", b"one"), shop.file("large", LARGE), shop.link("l", "a"))
    install(index, "local/a:v1", shop.directory, shop.origin, shop.data_dir, time_s=FIXED_S)
    assert {(shop.directory / name).lstat().st_mtime for name in ("a", "large", "l")} == {FIXED_S}
    (shop.directory / "a").unlink()
    force_to_match(index, "local/a:v1", shop.directory, shop.origin, shop.data_dir, time_s=FIXED_S + 2)
    assert {name: (shop.directory / name).lstat().st_mtime - FIXED_S for name in ("a", "l")} == {"a": 2, "l": 0}
