"""Questions over the control socket: answers, errors as themselves, and clients that cannot harm the mount."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from fusepkg_cache.errors import CacheUnusable

from fusepkg.daemon import control, control_server
from fusepkg.daemon.control import Question, ask
from fusepkg.errors import ControlError, DaemonNotRunning, NoEntry, ProtocolMismatch


async def answer(question: Question) -> dict[str, Any]:
    if question.what == "fs":
        raise NoEntry("no entry 'x'", hint="look")
    if question.what == "cache":
        raise CacheUnusable("the disk is gone")
    return {"what": question.what, "path": question.path}


@asynccontextmanager
async def serving(path: Path, answer: control_server.AnswerQuestion = answer) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(control_server.serve_control, control_server.listen(path), answer))
        yield
        nursery.cancel_scope.cancel()


async def put(path: Path, question: Question) -> dict[str, Any]:
    return await trio.to_thread.run_sync(ask, path, question)


async def raw(path: Path, data: bytes) -> bytes:
    """What the server says to these bytes and the end of input."""
    async with await trio.open_unix_socket(str(path)) as stream:
        await stream.send_all(data)
        await stream.send_eof()
        return b"".join([piece async for piece in stream])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.sock"


async def test_a_question_gets_its_answer(path: Path):
    async with serving(path):
        assert await put(path, Question("stat", "d/ä b")) == {"what": "stat", "path": "d/ä b"}


async def test_an_error_arrives_as_itself(path: Path):
    async with serving(path):
        with pytest.raises(NoEntry) as caught:
            await put(path, Question("fs"))
        assert (caught.value.message, caught.value.hint) == ("no entry 'x'", "look")


async def test_another_protocol_is_refused(path: Path):
    async with serving(path):
        with pytest.raises(ProtocolMismatch):
            await put(path, Question("status", protocol=control.PROTOCOL + 1))


@pytest.mark.parametrize("data", [b"", b"\n", b"x\n", b"{}\n", b"[]\n", b'{"what": 1}\n', b"x" * 300_000 + b"\n"])
async def test_what_cannot_be_read_gets_an_error_and_the_server_goes_on(path: Path, data: bytes):
    async with serving(path):
        with trio.fail_after(30):
            try:
                said = await raw(path, data)
            except trio.BrokenResourceError:  # closed on us while we were still sending
                said = b""
        assert not said or ControlError.code.encode() in said
        assert await put(path, Question("status"))


async def test_bytes_that_are_not_utf_8_are_such_a_question_too(path: Path):
    async with serving(path):
        await raw(path, b'{"what":"\xff"}\n')
        assert await put(path, Question("status"))


async def test_a_client_that_goes_away_harms_nobody(path: Path):
    async with serving(path):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b'{"what":"status"}\n')
        assert await put(path, Question("status"))


class Dying:
    """Processes that take a question each and end before they answer; the next one has the same socket."""

    def __init__(self, path: Path, deaths: int) -> None:
        self._listener = control_server.listen(path)
        self._deaths = deaths
        self.taken = 0

    def run(self) -> None:
        """Take questions until a client says nothing."""
        with self._listener:
            while True:
                taken, _ = self._listener.accept()
                with taken:
                    if not taken.recv(control_server.MAX_LINE_BYTES):
                        return
                    self.taken += 1
                    if self.taken > self._deaths:
                        taken.sendall(b'{"facts": {}}\n')


async def ask_dying(path: Path, question: Question, deaths: int) -> int:
    """Return how often a question was put to processes of which the first ones die."""
    dying = Dying(path, deaths)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, dying.run)
        with suppress(DaemonNotRunning):
            assert await put(path, question) == {}
        await (await trio.open_unix_socket(str(path))).aclose()
    return dying.taken


async def test_the_process_after_one_that_dies_is_asked_again(path: Path):
    assert await ask_dying(path, Question("switch", "v2"), 2) == 3


async def test_a_question_that_every_process_dies_of_is_put_three_times(path: Path):
    assert await ask_dying(path, Question("status"), 99) == control.TRIES


async def test_what_must_not_be_done_twice_is_asked_once(path: Path):
    assert await ask_dying(path, Question("prefetch"), 99) == 1


async def test_many_clients_at_once(path: Path):
    async with serving(path), trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(put, path, Question("stat", str(number)))


async def test_an_answer_that_fails_is_an_error_for_the_client_and_not_the_end_of_the_mount(path: Path):
    async with serving(path):
        with pytest.raises(ControlError):
            await put(path, Question("cache"))
        assert await put(path, Question("status"))


def test_without_a_daemon(path: Path):
    with pytest.raises(DaemonNotRunning):
        ask(path, Question("status"))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(DaemonNotRunning):
        ask(path, Question("status"))


async def test_an_answer_may_take_longer_than_a_client_waits_for_a_sign(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(control_server, "BEAT_S", 0.01)
    monkeypatch.setattr(control, "CLIENT_TIMEOUT_S", 2.0)

    async def take_long(question: Question) -> dict[str, Any]:
        await trio.sleep(2.5)
        return {"done": True}

    async with serving(path, take_long):
        assert await put(path, Question("switch")) == {"done": True}


async def test_the_socket_is_private(path: Path):
    async with serving(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_umask_is_left_alone_while_the_socket_is_made(path: Path):
    """It belongs to the whole process: a directory the cache makes meanwhile would have no x bit."""

    class Watch(trio.abc.Instrument):
        def __init__(self) -> None:
            self.seen = {umask()}

        def before_io_wait(self, timeout: float) -> None:
            self.seen.add(umask())

    async def main() -> None:
        async with serving(path):
            pass

    watch = Watch()
    trio.run(main, instruments=[watch])
    assert watch.seen == {umask()}


def umask() -> int:
    now = os.umask(0o022)
    os.umask(now)
    return now


async def test_a_name_that_is_not_utf_8_is_in_no_package(path: Path):
    async with serving(path):
        with pytest.raises(NoEntry):
            await put(path, Question("stat", os.fsdecode(b"\xff")))


async def test_an_error_about_a_name_that_is_not_utf_8_can_be_told(path: Path):
    async def refuse(question: Question) -> dict[str, Any]:
        raise NoEntry(os.fsdecode(b"no \xff"))

    async with serving(path, refuse):
        with pytest.raises(NoEntry, match=r"udcff"):
            await put(path, Question("stat"))
