"""The place of sockets and records: the first that can be used, and all that hold some."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from fusepkg.daemon import runtime
from fusepkg.errors import ControlError


@pytest.mark.parametrize("base", ["", "relative", "/proc/1", "/tmp/" + "x" * 90, "/no/such"])
def test_a_useless_runtime_directory_is_gone_without(base: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setenv("XDG_RUNTIME_DIR", base)
    assert [str(place) for place in runtime._places()] == ["/tmp/fusepkg-4711", "/dev/shm/fusepkg-4711"]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    found = [tmp_path / name for name in ("a", "b", "c")]
    monkeypatch.setattr(runtime, "_places", lambda: found)
    monkeypatch.setattr(runtime, "_places_of_listeners", list)
    return found


def test_the_first_place_that_works_is_taken(places: list[Path]):
    places[0].write_text("a file")
    places[1].mkdir(mode=0o755)  # others can read it
    places[1].chmod(0o755)
    assert runtime.runtime_directory() == places[2]
    assert places[2].stat().st_mode & 0o777 == 0o700
    assert runtime.runtime_directories() == [places[2]]


def test_without_any_place_each_reason_is_told(places: list[Path]):
    for place in places:
        place.write_text("a file")
    with pytest.raises(ControlError) as caught:
        runtime.runtime_directory()
    assert all(str(place) in caught.value.message for place in places)


def test_a_directory_of_another_session_is_found_by_its_listeners(tmp_path: Path):
    directory = tmp_path / "fusepkg"
    directory.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "0123456789ab.sock"))
        listener.listen()
        assert directory in runtime.runtime_directories()
    (directory / "0123456789ab.sock").unlink()
    assert directory not in runtime.runtime_directories()
