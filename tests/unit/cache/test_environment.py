from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import lmdb
import pytest
from fusepkg_cache import CacheClosed, datafile
from fusepkg_cache.changes import Changes, Tables
from fusepkg_cache.datafile import fault
from fusepkg_cache.environment import Environment
from fusepkg_cache.layout import Layout, prepare

ROOT = Path(__file__).parents[3]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return prepare(tmp_path / "cache")


@pytest.fixture
def environment(layout: Layout) -> Iterator[Environment]:
    environment = Environment(layout)
    yield environment
    environment.close()


def look(transaction: lmdb.Transaction, tables: Tables, key: bytes) -> bytes | None:
    value = transaction.get(key, db=tables.small)
    return None if value is None else bytes(value)


def put(environment: Environment, key: bytes, value: bytes = b"12345678value") -> None:
    environment.change(lambda changes: changes.put_small(key, value))


def elsewhere(layout: Layout, code: str) -> str:
    """Run code in another process, which has the environment open as ``environment``."""
    program = f"""
from pathlib import Path
import os, lmdb
from fusepkg_cache.environment import Environment
from fusepkg_cache.layout import Layout
environment = Environment(Layout(Path({str(layout.directory)!r})))
{code}
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_changes_are_kept(layout: Layout, environment: Environment) -> None:
    put(environment, b"key")
    assert environment.view(look, b"key") == b"12345678value"
    environment.close()
    again = Environment(layout)
    assert again.view(look, b"key") == b"12345678value"
    again.close()


def test_a_change_that_fails_changes_nothing(environment: Environment) -> None:
    def fail(changes: Changes) -> None:
        changes.put_small(b"key", b"12345678value")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        environment.change(fail)
    assert environment.view(look, b"key") is None


def test_the_totals_follow_the_changes(environment: Environment) -> None:
    put(environment, b"a", b"12345678" + bytes(10))
    put(environment, b"a", b"12345678" + bytes(10))
    put(environment, b"b", b"12345678" + bytes(5))
    environment.change(lambda changes: changes.put_record(b"c", (100).to_bytes(8, "little")))
    environment.change(lambda changes: changes.put_record(b"c", (90).to_bytes(8, "little")))
    environment.change(lambda changes: changes.drop_damaged(b"b"))
    totals = environment.view(lambda transaction, tables: tables.totals_in(transaction))
    assert (totals.small_bytes, totals.large_bytes, totals.verification_failures) == (10, 90, 1)


def test_the_map_grows_when_it_is_full(layout: Layout) -> None:
    environment = Environment(layout, map_bytes=256 * 1024)
    for number in range(20):
        put(environment, b"%d" % number, bytes(100_000))
    assert environment.map_bytes >= 2_000_000
    assert all(environment.view(look, b"%d" % number) == bytes(100_000) for number in range(20))
    environment.close()


def test_a_map_that_another_process_grew_is_followed(layout: Layout) -> None:
    environment = Environment(layout, map_bytes=256 * 1024)
    elsewhere(
        layout,
        "for n in range(20): environment.change(lambda changes: changes.put_small(b'%d' % n, bytes(100_000)))",
    )
    assert environment.view(look, b"19") == bytes(100_000)
    put(environment, b"20")
    environment.close()


def test_the_file_is_always_longer_than_its_pages(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datafile, "STEP_BYTES", 1 << 20)
    environment = Environment(layout)

    def come_and_go(changes: Changes, number: int) -> None:
        changes.put_small(b"%d" % number, bytes(100_000))
        changes.put_small(b"gone", bytes(300_000))  # takes pages at the end of the file, and never writes them
        changes.drop_small(b"gone")

    for number in range(50):
        environment.change(partial(come_and_go, number=number))
        assert fault(layout.environment / "data.mdb") is None
    environment.close()


@pytest.mark.parametrize("damage", ["cut off", "overwritten", "emptied lock", "another format"])
def test_a_damaged_environment_is_moved_aside_at_open(
    layout: Layout, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    environment = Environment(layout)
    for number in range(20):
        put(environment, b"%d" % number, bytes(10_000))
    environment.close()
    data_file = layout.environment / "data.mdb"
    if damage == "cut off":
        os.truncate(data_file, 3 * 4096)
    elif damage == "overwritten":
        data_file.write_bytes(b"no LMDB file" * 1000)
    elif damage == "emptied lock":
        os.truncate(layout.environment / "lock.mdb", 0)
    else:
        shutil.rmtree(layout.environment)
        layout.environment.mkdir()
        lmdb.open(str(layout.environment), lib_version=1).close()  # LMDB 1.0 has another data format
    again = Environment(layout)
    put(again, b"new")
    assert again.view(look, b"new") == b"12345678value"
    if damage != "emptied lock":
        assert again.view(look, b"1") is None
        assert (layout.damaged / "data.mdb").exists()
        assert "damaged and starts anew" in caplog.text
    again.close()


def test_damage_found_later_starts_afresh(layout: Layout, caplog: pytest.LogCaptureFixture) -> None:
    environment = Environment(layout)
    environment.change(lambda changes: [changes.put_small(b"%04d" % number, bytes(100)) for number in range(2000)])
    with (layout.environment / "data.mdb").open("r+b") as out:  # all but the meta pages
        used = environment.view(lambda transaction, tables: transaction.stat(tables.small)["leaf_pages"]) + 50
        out.seek(2 * 4096)
        out.write(bytes(used * 4096))
    assert environment.view(look, b"0000") is None
    put(environment, b"new")
    assert environment.view(look, b"new") == b"12345678value"
    assert layout.damaged.exists()
    assert "damaged and starts anew" in caplog.text
    environment.close()


def test_an_environment_that_another_process_replaced_is_opened_again(layout: Layout, environment: Environment) -> None:
    put(environment, b"old")
    elsewhere(layout, "environment.empty(); environment.change(lambda changes: changes.put_small(b'new', b'12345678'))")
    assert environment.view(look, b"old") is None
    assert environment.refresh()
    assert not environment.refresh()
    assert environment.view(look, b"new") == b"12345678"


def test_a_change_never_goes_to_an_environment_that_was_replaced(layout: Layout, environment: Environment) -> None:
    elsewhere(layout, "environment.empty()")
    put(environment, b"key")
    assert (
        elsewhere(
            layout, "print(environment.view(lambda transaction, tables: transaction.stat(tables.small)['entries']))"
        )
        == "1\n"
    )


def test_a_removed_directory_is_made_again(layout: Layout, environment: Environment) -> None:
    put(environment, b"old")
    shutil.rmtree(layout.directory)
    put(environment, b"key")
    assert environment.view(look, b"key") == b"12345678value"
    assert environment.view(look, b"old") is None


def test_emptying_gives_the_room_back(layout: Layout, environment: Environment) -> None:
    for number in range(100):
        put(environment, b"%d" % number, bytes(100_000))
    assert environment.empty() == (100, 100 * (100_000 - 8))
    assert (layout.environment / "data.mdb").stat().st_blocks * 512 < 200_000
    assert not layout.damaged.exists()
    assert environment.view(look, b"1") is None


def test_readers_that_were_killed_are_forgotten_at_open(layout: Layout, environment: Environment) -> None:
    elsewhere(layout, "keep = environment._lmdb().begin(); keep.get(b'x'); os._exit(0)")
    elsewhere(layout, "")
    assert environment._lmdb().reader_check() == 0


def test_an_environment_that_could_not_be_opened_again_is_tried_at_the_next_call(
    layout: Layout, environment: Environment
) -> None:
    put(environment, b"key")
    shutil.rmtree(layout.root)
    layout.root.write_text("in the way")
    with pytest.raises(Exception, match=r"(?i)not a directory"):
        put(environment, b"key")
    layout.root.unlink()
    put(environment, b"key")
    assert environment.view(look, b"key") == b"12345678value"


def test_a_closed_environment_says_so(environment: Environment) -> None:
    environment.close()
    environment.close()
    with pytest.raises(CacheClosed):
        environment.view(look, b"key")
    with pytest.raises(CacheClosed):
        put(environment, b"key")
    with pytest.raises(CacheClosed):
        environment.empty()
