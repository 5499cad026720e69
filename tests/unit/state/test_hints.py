from __future__ import annotations

import hashlib
import os
import pickle
import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from fusepkg.state.file_identity import SETTLED_NS, FileIdentity
from fusepkg.state.hints import Hints, TagHint

NOW_NS = 1_700_000_000_000_000_123
OLD_NS = NOW_NS - SETTLED_NS
DISK = "disk ext4 0123 8:1"
IDENTITY = FileIdentity(device=1, inode=2, size=3, mtime_ns=OLD_NS, ctime_ns=OLD_NS, filesystem=DISK)
CHUNKS = (hashlib.sha256(b"abc").digest(),)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "remembered"


@pytest.fixture
def remembered(directory: Path):
    remembered = Hints(directory)
    yield remembered
    remembered.close()


def database(directory: Path) -> Path:
    return directory / "cache.db"


def test_a_tag_is_remembered_with_its_time_per_registry(remembered: Hints) -> None:
    remembered.remember_tag("s3://bucket", "ns/name", "latest", "ab" * 32, now=12.5)
    assert remembered.tag("s3://bucket", "ns/name", "latest") == TagHint("ab" * 32, 12.5)
    assert remembered.tag("s3://other", "ns/name", "latest") is None
    assert remembered.tag("s3://bucket", "ns/name", "v1") is None


def test_a_file_is_remembered_while_nothing_about_it_changes(remembered: Hints) -> None:
    remembered.remember_chunk_hashes({IDENTITY: CHUNKS}, read_at_ns=NOW_NS)
    assert remembered.chunk_hashes([IDENTITY]) == {IDENTITY: CHUNKS}
    for changed in (
        replace(IDENTITY, inode=9),
        replace(IDENTITY, size=9),
        replace(IDENTITY, mtime_ns=OLD_NS + 1),
        replace(IDENTITY, ctime_ns=OLD_NS + 1),
        replace(IDENTITY, filesystem="disk ext4 4567 8:1"),
        replace(IDENTITY, filesystem=""),
    ):
        assert remembered.chunk_hashes([changed]) == {}


@pytest.mark.parametrize("filesystem", ["", "mount 0123 9", "unknown 0123"])
def test_a_file_of_an_unnamed_file_system_is_not_remembered(remembered: Hints, filesystem: str) -> None:
    identity = replace(IDENTITY, filesystem=filesystem)
    remembered.remember_chunk_hashes({identity: CHUNKS}, read_at_ns=NOW_NS)
    assert remembered.chunk_hashes([identity]) == {}


def test_an_empty_file_and_a_long_chunk_list_are_remembered(remembered: Hints) -> None:
    empty = FileIdentity(1, 3, 0, 0, 1, DISK)
    large = FileIdentity(1, 4, 10_000 << 23, 0, 1, DISK)
    many = tuple(hashlib.sha256(b"%d" % number).digest() for number in range(10_000))
    remembered.remember_chunk_hashes({empty: (), large: many}, read_at_ns=NOW_NS)
    assert remembered.chunk_hashes([empty, large]) == {empty: (), large: many}


@pytest.mark.parametrize(
    "identity",
    [
        replace(IDENTITY, ctime_ns=OLD_NS + 1),
        replace(IDENTITY, ctime_ns=NOW_NS + SETTLED_NS),
        replace(IDENTITY, ctime_ns=OLD_NS // 10**9 * 10**9),
    ],
    ids=["just now", "in the future", "whole seconds"],
)
def test_a_file_touched_just_now_is_not_remembered(remembered: Hints, identity: FileIdentity) -> None:
    remembered.remember_chunk_hashes({identity: CHUNKS}, read_at_ns=NOW_NS)
    assert remembered.chunk_hashes([identity]) == {}


def test_it_survives_closing_and_another_process_s_view(directory: Path, remembered: Hints) -> None:
    remembered.remember_tag("r", "n", "t", "ab" * 32, now=1.0)
    other = Hints(directory)
    assert other.tag("r", "n", "t") == TagHint("ab" * 32, 1.0)
    other.close()
    remembered.close()
    assert remembered.tag("r", "n", "t") == TagHint("ab" * 32, 1.0)


def test_the_directory_is_private(directory: Path, remembered: Hints) -> None:
    directory.mkdir(parents=True, mode=0o755)
    remembered.remember_tag("r", "n", "t", "ab" * 32)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


@pytest.mark.parametrize("damage", [b"", b"this is no database" * 1000, None])
def test_a_damaged_database_is_forgotten_and_started_again(directory: Path, damage: bytes | None) -> None:
    remembered = Hints(directory)
    remembered.remember_tag("r", "n", "t", "ab" * 32)
    remembered.close()
    path = database(directory)
    if damage is None:
        data = bytearray(path.read_bytes())
        data[100:] = os.urandom(len(data) - 100)
        damage = bytes(data)
    for extra in directory.glob("cache.db-*"):
        extra.unlink()
    path.write_bytes(damage)
    remembered = Hints(directory)
    assert remembered.tag("r", "n", "t") is None
    remembered.remember_tag("r", "n", "t", "ab" * 32, now=2.0)
    remembered.remember_tag("r", "n", "t", "ab" * 32, now=2.0)
    assert remembered.tag("r", "n", "t") == TagHint("ab" * 32, 2.0)
    remembered.close()


def test_a_missing_table_is_forgotten(directory: Path, remembered: Hints) -> None:
    remembered.remember_tag("r", "n", "t", "ab" * 32)
    with sqlite3.connect(database(directory)) as connection:
        connection.execute("DROP TABLE Cache")
    connection.close()
    assert remembered.tag("r", "n", "t") is None
    remembered.remember_tag("r", "n", "t", "ab" * 32, now=2.0)
    assert remembered.tag("r", "n", "t") == TagHint("ab" * 32, 2.0)


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("mode", [1, 2, 3, 4])
def test_nothing_is_ever_unpickled(directory: Path, remembered: Hints, tmp_path: Path, mode: int) -> None:
    remembered.remember_tag("r", "n", "t", "ab" * 32)
    trap = tmp_path / "unpickled"
    with sqlite3.connect(database(directory)) as connection:
        data = pickle.dumps(Payload(str(trap)))
        connection.execute("UPDATE Cache SET mode = ?, value = ?", (mode, sqlite3.Binary(data)))
    connection.close()
    assert remembered.tag("r", "n", "t") is None
    assert not trap.exists()


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:-32], lambda data: b"\0" + data[1:]])
def test_a_damaged_value_is_forgotten(directory: Path, remembered: Hints, damage) -> None:
    remembered.remember_chunk_hashes({IDENTITY: CHUNKS}, read_at_ns=NOW_NS)
    with sqlite3.connect(database(directory)) as connection:
        ((value,),) = connection.execute("SELECT value FROM Cache").fetchall()
        connection.execute("UPDATE Cache SET value = ?", (sqlite3.Binary(damage(bytes(value))),))
    connection.close()
    assert remembered.chunk_hashes([IDENTITY]) == {}


def test_without_a_usable_directory_nothing_is_remembered_and_nothing_raised(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    remembered = Hints(tmp_path / "file" / "remembered")
    remembered.remember_tag("r", "n", "t", "ab" * 32)
    assert remembered.tag("r", "n", "t") is None
    assert remembered.chunk_hashes([IDENTITY]) == {}


def test_what_else_lies_in_the_directory_is_left_alone(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "precious").write_text("mine")
    database(directory).write_bytes(b"no database" * 1000)
    remembered = Hints(directory)
    remembered.remember_tag("r", "n", "t", "ab" * 32)
    remembered.close()
    assert (directory / "precious").read_text() == "mine"


def test_many_threads_share_it(remembered: Hints) -> None:
    start = threading.Barrier(8, timeout=60)

    def work(number: int) -> bool:
        start.wait()
        identity = FileIdentity(1, number, 1, 0, 1, DISK)
        remembered.remember_chunk_hashes({identity: CHUNKS}, read_at_ns=NOW_NS)
        return remembered.chunk_hashes([identity]) == {identity: CHUNKS}

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(8)))


def test_a_tag_whose_value_is_damaged_is_forgotten(tmp_path: Path) -> None:
    hints = Hints(tmp_path / "hints")
    hints.remember_tag("s3://bucket/", "name", "v1", "ab" * 32)
    hints.close()
    database = tmp_path / "hints" / "cache.db"
    damaged = database.read_bytes().replace(b"ab" * 32, b"ab" * 31 + b"cd")
    assert damaged != database.read_bytes()
    database.write_bytes(damaged)
    assert Hints(tmp_path / "hints").tag("s3://bucket/", "name", "v1") is None
