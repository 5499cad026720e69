from __future__ import annotations

from pathlib import Path

import lmdb
import pytest
from fusepkg_cache.datafile import STEP_BYTES, ensure_length, fault


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    with lmdb.open(str(tmp_path / "env"), map_size=1 << 30) as environment, environment.begin(write=True) as changing:
        for number in range(100):
            changing.put(b"%d" % number, bytes(5000))
    return tmp_path / "env" / "data.mdb"


def test_a_sound_file_has_no_fault(data_file: Path) -> None:
    assert fault(data_file) is None


def test_no_file_and_an_empty_file_have_no_fault(tmp_path: Path) -> None:
    assert fault(tmp_path / "data.mdb") is None
    (tmp_path / "data.mdb").touch()
    assert fault(tmp_path / "data.mdb") is None


@pytest.mark.parametrize("keep", [1, 100, 4096, 8192, 40960, -1])
def test_a_file_that_was_cut_off_has_a_fault(data_file: Path, keep: int) -> None:
    data = data_file.read_bytes()
    data_file.write_bytes(data[:keep])
    assert fault(data_file)


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [(16, b"\0\0\0\0", "begin"), (20, b"\3\0\0\0", "format 3"), (40, b"\1\0\0\0", "pages of 1 bytes")],
)
def test_a_file_of_another_kind_has_a_fault(data_file: Path, at: int, value: bytes, says: str) -> None:
    data = data_file.read_bytes()
    data_file.write_bytes(data[:at] + value + data[at + len(value) :])
    assert says in (fault(data_file) or "")


def test_the_file_grows_ahead_of_its_pages_and_never_shrinks(data_file: Path) -> None:
    used = data_file.stat().st_size
    ensure_length(data_file, used)
    grown = data_file.stat()
    assert grown.st_size >= used + STEP_BYTES
    assert grown.st_blocks * 512 < used + 65536  # sparse
    ensure_length(data_file, 4096)
    assert data_file.stat().st_size == grown.st_size
    assert fault(data_file) is None
