"""What a mounter runs and what it does not, and what its commands find around them."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fusepkg.csi import mounter
from fusepkg.errors import ControlError, MountFailed, TagNotFound, UsageError

GOOD = {"arguments": ["mount", "--json", "--", "data/p", "/m"], "credentials": ""}


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        json.dumps(GOOD | {"arguments": []}).encode(),
        json.dumps(GOOD | {"arguments": ["push", "/etc", "data/p"]}).encode(),
        json.dumps(GOOD | {"arguments": ["mount", 5]}).encode(),
        json.dumps(GOOD | {"arguments": "mount"}).encode(),
        json.dumps(GOOD | {"credentials": None}).encode(),
        b" " * (1 << 19),
    ],
)
def test_other_requests_are_refused(request_bytes: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=send, args=(theirs, request_bytes))
        sender.start()
        with pytest.raises(UsageError):
            mounter._request_of(ours)
        ours.close()
        sender.join()


def send(connection: socket.socket, data: bytes) -> None:
    try:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
    except OSError:  # it was refused before its end
        pass


def test_a_request_for_a_mount() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(theirs, json.dumps(GOOD | {"credentials": "/s/key"}).encode())
        assert mounter._request_of(ours) == (GOOD["arguments"], Path("/s/key"))


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Any]:
    """A mounter that answers every request with these words."""
    words: list[bytes] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(words[0])

    thread = threading.Thread(target=answer)

    def run(said: bytes) -> str:
        words.append(said)
        thread.start()
        return mounter.run_at(tmp_path / "s")(["mount", "data/p", "/m"], None)

    with listener:
        yield run
        thread.join()


def test_errors_of_the_command_come_back(answering: Any) -> None:
    said = b'{"error": {"code": "package.tag_not_found", "message": "no tag v9", "hint": "See", "exit_code": 3}}\n'
    with pytest.raises(TagNotFound, match="no tag v9"):
        answering(b"Warning: slow\n" + said)


@pytest.mark.parametrize("said", [b"", b"Killed\n", b'{"error": "?"}\nSegmentation fault\n'])
def test_a_command_that_ends_early_is_a_failure(answering: Any, said: bytes) -> None:
    with pytest.raises(MountFailed, match="ended early"):
        answering(said)


def test_without_a_mounter_the_answer_says_so(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="does not answer"):
        mounter.run_at(tmp_path / "none")(["mount", "data/p", "/m"], None)


def test_credentials_of_a_volume_are_the_only_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_REGION"):
        monkeypatch.setenv(name, "of the node")
    assert mounter._environment(None)["AWS_ACCESS_KEY_ID"] == "of the node"
    found = {name: text for name, text in mounter._environment(Path("/s/key")).items() if name.startswith("AWS_")}
    assert found == {
        "AWS_REGION": "of the node",
        "AWS_SHARED_CREDENTIALS_FILE": "/s/key",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
