"""Records of mounts: whose they are, when they go, and the kernel's table with odd names in it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fusepkg.daemon import records
from fusepkg.daemon.records import MountRecord
from fusepkg.errors import NotMounted

NO_DEVICE = "0:999999"


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime directory of the test's own, also for root."""
    directory = tmp_path / "run"
    directory.mkdir(mode=0o700)
    monkeypatch.setattr(records, "runtime_directory", lambda: directory)
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


def test_a_record_is_read_as_it_was_written_and_forgotten_with_its_socket(runtime: Path):
    record = written("/mnt/a", offline_since_s=5.0)
    assert records.read_records() == [record]
    records.remove_record(record.mount_id)
    assert list(runtime.iterdir()) == []
    records.remove_record(record.mount_id)


def test_the_oldest_mount_comes_first():
    later, first = written("/mnt/a", started_s=2.0), written("/mnt/b", started_s=1.0)
    assert records.read_records() == [first, later]


def test_a_record_of_a_dead_daemon_goes_with_its_mount(runtime: Path):
    written("/mnt/a", alive=False)
    assert records.read_records() == []
    assert list(runtime.iterdir()) == []


def test_a_record_of_a_dead_daemon_stays_as_long_as_its_mount():
    root = records.top_mount(Path("/"))
    assert root is not None
    record = written("/", alive=False, device=root.device)
    assert records.read_records() == [record]
    assert not records.is_alive(record)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"mount_id": 3}', b"[" * 100])
def test_a_file_that_is_no_record_is_passed_over(runtime: Path, content: bytes):
    (runtime / "odd.json").write_bytes(content)
    record = written("/mnt/a")
    assert records.read_records() == [record]


def test_a_record_of_a_later_version_is_read(runtime: Path):
    record = written("/mnt/a")
    path = runtime / f"{record.mount_id}.json"
    path.write_bytes(msgspec.json.encode(msgspec.to_builtins(record) | {"colour": "red"}))
    assert records.read_records() == [record]


def test_another_process_of_the_same_number_is_not_the_daemon(runtime: Path):
    record = record_of("/mnt/a")  # of this very process, which serves nothing
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(record.socket)
    assert not records.is_alive(record)


def test_a_device_number_given_to_another_mount_keeps_no_record():
    written("/mnt/a", alive=False, device=min(records.mounted_devices()))
    assert records.read_records() == []


def test_only_one_holds_a_lock_and_it_leaves_nothing(runtime: Path):
    with records.locked("a") as first, records.locked("a") as second, records.locked("b") as other:
        assert (first, second, other) == (True, False, True)
        records.sweep()
        with records.locked("a") as third:
            assert not third
    assert list(runtime.iterdir()) == []


def test_what_killed_processes_left_is_swept(runtime: Path):
    record = written("/mnt/a")
    dead = [runtime / name for name in ("x.sock", "x.draft", "x.lock")]
    starting = runtime / "new.sock"
    for path in (*dead, starting):
        path.touch()
    for path in dead:
        os.utime(path, (time.time() - 3600,) * 2)
    records.sweep()
    assert {path.name for path in runtime.iterdir()} == {
        f"{record.mount_id}.json",
        f"{record.mount_id}.sock",
        "new.sock",
    }


@pytest.mark.parametrize("base", ["", "relative", "/proc/1", "/tmp/" + "x" * 90, "/no/such"])
def test_a_useless_runtime_directory_is_gone_without(base: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setenv("XDG_RUNTIME_DIR", base)
    assert records._preferred_directory() is None


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


@dataclass
class Table:
    """A mount table in a file, for whoever reads /proc/self/mountinfo."""

    path: Path

    def hold(self, *mountpoints: bytes) -> None:
        self.path.write_bytes(
            b"".join(b"2%d 1 0:4%d / %s rw,nosuid - tmpfs tmpfs rw\n" % (n, n, at) for n, at in enumerate(mountpoints))
        )


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    table = Table(tmp_path / "mountinfo")

    class Elsewhere(type(Path())):  # type: ignore[misc]
        def __new__(cls, *parts: Any) -> Path:
            return Path(table.path) if parts == ("/proc/self/mountinfo",) else Path(*parts)

    monkeypatch.setattr(records, "Path", Elsewhere)
    return table


@pytest.mark.parametrize(
    "name", ["/mnt/a", "/mnt/a b", "/mnt/a\tb", "/mnt/a\nb", "/mnt/a\\b", "/mnt/a\\040b", "/mnt/#"]
)
def test_a_mountpoint_is_recognised_as_the_kernel_writes_it(table: Table, name: str):
    table.hold(b"/", kernels(os.fsencode(name)), b"/proc")
    assert records.mounted_at(Path(name))
    assert not records.mounted_at(Path(name + "x"))


@pytest.mark.parametrize(
    "name", [b"/mnt/\xe6\x95\xb0", b"/mnt/\xff", b"/mnt/a\x0cb", "/mnt/a\u2028b".encode(), "/mnt/a\xa0b".encode()]
)
def test_no_name_of_a_mountpoint_makes_the_table_unreadable(table: Table, name: bytes):
    table.hold(kernels(name), b"/mnt/after")
    assert records.mounted_devices() == {"0:40", "0:41"}
    assert records.mounted_at(Path("/mnt/after"))
    assert records.mounted_at(Path(os.fsdecode(name)))


def kernels(name: bytes) -> bytes:
    """A name as the kernel escapes it in its tables."""
    return b"".join(b"\\%03o" % byte if byte in b" \t\n\\#" else bytes([byte]) for byte in name)


@pytest.mark.parametrize(
    ("kind", "source", "ours"),
    [
        (b"fuse.fusepkg", b"fusepkg", True),
        (b"erofs", b"/tmp/fusepkg-k2x_1/image", True),
        (b"erofs", b"/tmp/my/image", False),
        (b"fuse.sshfs", b"host:", False),
        (b"tmpfs", b"fusepkg", False),
    ],
)
def test_what_is_ours_shows_in_the_table(table: Table, kind: bytes, source: bytes, ours: bool):
    table.path.write_bytes(b"20 1 0:40 / /a rw shared:1 master:2 - %s %s rw\n" % (kind, source))
    found = records.top_mount(Path("/a"))
    assert found is not None
    assert found.is_ours is ours
