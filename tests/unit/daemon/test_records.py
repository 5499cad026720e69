"""Records of mounts: whose they are, and when they go."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fusepkg.daemon import mount_table, records
from fusepkg.daemon.records import MountRecord
from fusepkg.errors import NotMounted

NO_DEVICE = "0:999999"


@pytest.fixture(autouse=True)
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime directory of the test's own, also for root."""
    directory = tmp_path / "run"
    directory.mkdir(mode=0o700)
    monkeypatch.setattr(records, "runtime_directory", lambda: directory)
    monkeypatch.setattr(records, "runtime_directories", lambda: [directory])
    return directory


def record_of(mountpoint: Path | str, **fields: Any) -> MountRecord:
    mount_id = records.new_mount_id()
    known: dict[str, Any] = {
        "mount_id": mount_id,
        "pid": os.getpid(),
        "mountpoint": str(mountpoint),
        "device": NO_DEVICE,
        "reference": "local/x:v1",
        "top_hash": "0" * 64,
        "engine": "fuse",
        "engine_reason": "asked for",
        "started_s": 1.0,
        "socket": str(records.runtime_directory() / f"{mount_id}.sock"),
        "log": "log",
        "index_root": "root",
    }
    return MountRecord(**known | fields)


@pytest.fixture(autouse=True)
def listeners() -> Iterator[None]:
    """Closes what ``written`` has opened."""
    yield
    while LISTENERS:
        LISTENERS.pop().close()


LISTENERS: list[socket.socket] = []


def written(mountpoint: Path | str, *, alive: bool = True, **fields: Any) -> MountRecord:
    """A record in its place, with a socket, at which a living daemon listens."""
    record = record_of(mountpoint, **fields)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(record.socket)
    if alive:
        listener.listen()
        LISTENERS.append(listener)
    else:
        listener.close()
    records.write_record(record)
    return record


def test_a_record_is_read_as_it_was_written_and_forgotten_with_its_socket(run_directory: Path):
    record = written("/mnt/a", offline_since_s=5.0)
    assert records.read_records() == [record]
    records.remove_record(record.mount_id)
    assert list(run_directory.iterdir()) == []
    records.remove_record(record.mount_id)


def test_the_oldest_mount_comes_first():
    later, first = written("/mnt/a", started_s=2.0), written("/mnt/b", started_s=1.0)
    assert records.read_records() == [first, later]


def test_a_record_of_a_dead_daemon_goes_with_its_mount(run_directory: Path):
    written("/mnt/a", alive=False)
    assert records.read_records() == []
    assert list(run_directory.iterdir()) == []


def test_a_record_of_a_dead_daemon_stays_as_long_as_its_mount():
    root = mount_table.top_mount(Path("/"))
    assert root is not None
    record = written("/", alive=False, device=root.device)
    assert records.read_records() == [record]
    assert not records.is_alive(record)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"mount_id": 3}', b"[" * 100])
def test_a_file_that_is_no_record_is_passed_over(run_directory: Path, content: bytes):
    (run_directory / "odd.json").write_bytes(content)
    record = written("/mnt/a")
    assert records.read_records() == [record]


def test_a_record_of_a_later_version_is_read(run_directory: Path):
    record = written("/mnt/a")
    path = run_directory / f"{record.mount_id}.json"
    path.write_bytes(msgspec.json.encode(msgspec.to_builtins(record) | {"colour": "red"}))
    assert records.read_records() == [record]


def test_another_process_of_the_same_number_is_not_the_daemon(run_directory: Path):
    record = record_of("/mnt/a")  # of this very process, which serves nothing
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(record.socket)
    assert not records.is_alive(record)


def test_a_device_number_given_to_another_mount_keeps_no_record():
    written("/mnt/a", alive=False, device=min(mount_table.mounted_devices()))
    assert records.read_records() == []


def test_only_one_holds_a_lock_and_it_leaves_nothing(run_directory: Path):
    with records.locked("a") as first, records.locked("a") as second, records.locked("b") as other:
        assert (first, second, other) == (True, False, True)
        records.sweep()
        with records.locked("a") as third:
            assert not third
    assert list(run_directory.iterdir()) == []


def test_what_killed_processes_left_is_swept(run_directory: Path):
    record = written("/mnt/a")
    dead = [run_directory / name for name in ("x.sock", "x.draft", "x.lock")]
    starting = run_directory / "new.sock"
    for path in (*dead, starting):
        path.touch()
    for path in dead:
        os.utime(path, (time.time() - 3600,) * 2)
    records.sweep()
    assert {path.name for path in run_directory.iterdir()} == {
        f"{record.mount_id}.json",
        f"{record.mount_id}.sock",
        "new.sock",
    }


# --- paths -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", "/", "/.", "/sub/.."])
def test_a_mount_is_found_by_any_spelling_of_its_directory(tmp_path: Path, suffix: str):
    (tmp_path / "m" / "sub").mkdir(parents=True)
    record = written(tmp_path / "m")
    assert records.find_record(Path(f"{tmp_path}/m{suffix}")) == (record, ".")


def test_a_relative_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    record = written(tmp_path / "m")
    monkeypatch.chdir(tmp_path)
    assert records.find_record(Path("m/a/b")) == (record, "a/b")


def test_a_path_through_a_link_is_found(tmp_path: Path):
    (tmp_path / "real" / "m").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    record = written(tmp_path / "real" / "m")
    assert records.find_record(tmp_path / "link" / "m") == (record, ".")


def test_a_link_to_the_mount_is_found(tmp_path: Path):
    (tmp_path / "m").mkdir()
    (tmp_path / "link").symlink_to("m")
    record = written(tmp_path / "m")
    assert records.find_record(tmp_path / "link") == (record, ".")


def test_of_nested_mounts_the_inner_one_is_found_and_of_two_at_one_place_the_later(tmp_path: Path):
    written(tmp_path / "m", started_s=1.0)
    outer = written(tmp_path / "m", started_s=2.0)
    inner = written(tmp_path / "m" / "n", started_s=1.5)
    assert records.find_record(tmp_path / "m" / "n" / "x") == (inner, "x")
    assert records.find_record(tmp_path / "m" / "nn") == (outer, "nn")


def test_a_path_in_no_mount(tmp_path: Path):
    written(tmp_path / "m")
    with pytest.raises(NotMounted):
        records.find_record(tmp_path / "mm")


# --- the kernel's table ------------------------------------------------------------------------------------------
