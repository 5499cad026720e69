from __future__ import annotations

import os
import random
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fusepkg_cache.digest import Algorithm, compute_digest

from fusepkg.model.entry import EntryKind
from fusepkg.state import file_identity, install_record
from fusepkg.state.file_identity import CLOCK_TICK_NS
from fusepkg.state.install_record import InstallRecord, WrittenFile, installed_at, written_file

DIGEST = compute_digest(Algorithm.SHA2_256_CHUNKED, b"one")


def record_of(tmp_path: Path) -> InstallRecord:
    (tmp_path / "d").mkdir(exist_ok=True)
    return InstallRecord(tmp_path / "data", tmp_path / "d")


def written(tmp_path: Path, data: bytes = b"one") -> WrittenFile:
    path = tmp_path / "d" / "a"
    path.write_bytes(data)
    return written_file("a", EntryKind.FILE, DIGEST, path.lstat())


def read_back(tmp_path: Path) -> WrittenFile:
    record = record_of(tmp_path)
    (file,) = record.files()
    record.close()
    return file


def install(tmp_path: Path) -> WrittenFile:
    record = record_of(tmp_path)
    record.start("bucket/name", "ab" * 32, into_empty=True)
    record.add(written(tmp_path))
    record.finish()
    record.close()
    return read_back(tmp_path)


@pytest.mark.usefixtures("lasting_disk")
def test_a_file_on_a_disk_is_known_by_its_stat_data(tmp_path: Path) -> None:
    file = install(tmp_path)
    assert file.is_untouched((tmp_path / "d" / "a").lstat())
    (tmp_path / "d" / "a").write_bytes(b"two")
    assert not file.is_untouched((tmp_path / "d" / "a").lstat())


def test_elsewhere_nothing_is_known_without_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_identity, "_lasting_name", lambda *_: None)
    assert not install(tmp_path).is_untouched((tmp_path / "d" / "a").lstat())


@pytest.mark.usefixtures("lasting_disk")
def test_a_file_on_another_file_system_below_the_directory_is_not_known(tmp_path: Path) -> None:
    file = install(tmp_path)
    assert not replace(file, device=(file.device or 0) + 1).is_untouched((tmp_path / "d" / "a").lstat())


@pytest.mark.usefixtures("lasting_disk")
def test_a_file_changed_right_after_it_was_written_is_read(tmp_path: Path) -> None:
    record = record_of(tmp_path)
    record.start("bucket/name", "ab" * 32, into_empty=True)
    file = written(tmp_path)
    (tmp_path / "d" / "a").write_bytes(b"two")  # perhaps within the same tick of the kernel's clock
    os.utime(tmp_path / "d" / "a", ns=(file.mtime_ns, file.mtime_ns))
    record.add(file)
    record.close()
    known = read_back(tmp_path)
    assert known.digest == DIGEST
    now = (tmp_path / "d" / "a").lstat()
    assert now.st_ctime_ns == file.ctime_ns or not known.is_untouched(now)


@pytest.mark.usefixtures("lasting_disk")
def test_rows_wait_until_the_kernels_clock_has_ticked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(install_record.time, "sleep", waited.append)
    install(tmp_path)
    assert waited == [CLOCK_TICK_NS / 1e9]


@pytest.mark.usefixtures("lasting_disk")
def test_a_file_from_the_future_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    yesterday = time.time_ns() - 86_400 * 10**9
    monkeypatch.setattr(install_record.time, "time_ns", lambda: yesterday)  # the clock was set back
    assert not install(tmp_path).is_untouched((tmp_path / "d" / "a").lstat())


def test_what_is_installed_is_told_of_the_same_directory_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = ["disk ext4 a"]
    monkeypatch.setattr(file_identity, "_lasting_name", lambda *_: name[0])
    install(tmp_path)
    found = installed_at(tmp_path / "data", tmp_path / "d")
    assert found is not None
    assert found.is_certain
    name[0] = "disk ext4 b"  # another disk with the same device number and inode
    assert installed_at(tmp_path / "data", tmp_path / "d") is None


def test_without_a_lasting_name_the_directory_may_be_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_identity, "_lasting_name", lambda *_: None)
    monkeypatch.setattr(file_identity, "_mount_name", lambda _file: file_identity._new_name())
    install(tmp_path)
    found = installed_at(tmp_path / "data", tmp_path / "d")
    assert found is not None
    assert not found.is_certain


def test_a_record_damaged_anywhere_is_set_aside_or_still_serves(tmp_path: Path) -> None:
    install(tmp_path)
    (database,) = (tmp_path / "data" / "installed").glob("*.sqlite")
    whole, chance = database.read_bytes(), random.Random(8)
    used = [at for at, byte in enumerate(whole) if byte]
    names = [at for name in (b"place", b"began_empty", b"is_complete") if (at := whole.find(name)) >= 0]
    places = names + chance.sample(used, 60)
    for at in places:
        for beside in database.parent.iterdir():
            beside.unlink()
        database.write_bytes(whole[:at] + bytes([whole[at] ^ 0x81]) + whole[at + 1 :])
        installed_at(tmp_path / "data", tmp_path / "d")
        record = record_of(tmp_path)
        list(record.files())
        record.start("bucket/name", "ab" * 32, into_empty=False)
        record.finish()
        record.close()
        found = installed_at(tmp_path / "data", tmp_path / "d")
        assert found is not None
        assert found.is_complete
