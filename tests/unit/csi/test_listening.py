"""The sockets of the driver and of the mounter."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from fusepkg.csi.listening import clear_place, listen, unix_path
from fusepkg.errors import SystemFailure, UsageError


def test_paths_of_sockets() -> None:
    for text in ("unix:///csi/csi.sock", "unix:/csi/csi.sock", "/csi/csi.sock"):
        assert unix_path(text, "--endpoint") == Path("/csi/csi.sock")


@pytest.mark.parametrize("text", ["tcp://0.0.0.0:1", "csi.sock", "", "unix://csi.sock", f"/{'long' * 30}"])
def test_other_places_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--endpoint"):
        unix_path(text, "--endpoint")


def test_a_socket_is_this_users_only(tmp_path: Path) -> None:
    place = tmp_path / "fusepkg" / "csi" / "s"
    with listen(place):
        assert {one.stat().st_mode & 0o077 for one in (place, *place.parents[:2])} == {0}
        with pytest.raises(SystemFailure, match="another process listens"):
            clear_place(place)
        assert place.is_socket()


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    place = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(place))
    with listen(place), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(place))


def test_another_file_is_left_alone(tmp_path: Path) -> None:
    place = tmp_path / "s"
    place.write_text("mine")
    with pytest.raises(SystemFailure, match="not a socket"):
        listen(place)
    assert place.read_text() == "mine"
