"""The daemon's side of the control socket.

The socket has mode 0600 in a 0700 directory, and the peer's user id is checked besides. A question that cannot be
read gets an error line and the connection is closed.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from fusepkg.daemon.control import PROTOCOL, ControlAnswer, Question, printable
from fusepkg.engines.errnos import worst
from fusepkg.errors import ControlError, FusepkgError, ProtocolMismatch

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 64 * 1024
"""Longest question: a path of 4 KiB, escaped, fits many times."""

SERVER_TIMEOUT_S = 10.0
"""How long a client may take to send its line, or to take ours."""

BEAT_S = 1.0
"""How often a client that waits for an answer gets an empty line: it tells that the daemon is at work."""

AnswerQuestion = Callable[[Question], Awaitable[dict[str, Any]]]


def listen(path: Path) -> socket.socket:
    """Return a socket at which questions arrive."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    os.chmod(path, 0o600)  # the directory is private already; the umask belongs to the whole process
    listener.listen()
    return listener


async def serve_control(
    listening: socket.socket, answer: AnswerQuestion, *, task_status: trio.TaskStatus[None]
) -> None:
    """Answer questions until cancelled. An answer is worked out to its end also when its client has gone."""
    listening.setblocking(False)
    listener = trio.socket.from_stdlib_socket(listening)

    async def reply(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                line = await _answer_one(stream, answer)
                with trio.move_on_after(SERVER_TIMEOUT_S):
                    await stream.send_all(line + b"\n")
            except trio.BrokenResourceError:
                log.debug("a control client went away")

    task_status.started()
    await trio.serve_listeners(reply, [trio.SocketListener(listener)])


async def _answer_one(stream: trio.SocketStream, answer: AnswerQuestion) -> bytes:
    try:
        _check_peer(stream.socket)
        line = b""
        with trio.move_on_after(SERVER_TIMEOUT_S):
            line = await _read_line(stream)
        question = msgspec.json.decode(line, type=Question)
        if question.protocol != PROTOCOL:
            raise ProtocolMismatch(
                f"the client speaks control protocol {question.protocol}, this mount {PROTOCOL}",
                hint="Use the fusepkg that made the mount, or mount again",
            )
        return await _answered(stream, question, answer)
    except FusepkgError as exc:
        return msgspec.json.encode(
            ControlAnswer(code=exc.code, message=printable(exc.message), hint=printable(exc.hint))
        )
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        return msgspec.json.encode(ControlAnswer(code=ControlError.code, message=f"the question cannot be read: {exc}"))


async def _answered(stream: trio.SocketStream, question: Question, answer: AnswerQuestion) -> bytes:
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_beat, stream)
            facts = await answer(question)
            nursery.cancel_scope.cancel()
        return msgspec.json.encode(ControlAnswer(facts=facts))
    except Exception as exc:
        error = worst(exc)
        if isinstance(error, FusepkgError):
            raise error from exc
        log.exception("a question for %r failed with a bug in fusepkg", question.what)
        raise ControlError(f"the mount's daemon failed to answer: {error!r}", hint="Its log has more") from exc


async def _beat(stream: trio.SocketStream) -> None:
    while True:
        await trio.sleep(BEAT_S)
        try:
            await stream.send_all(b"\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await trio.sleep_forever()  # the client has gone: the answer is worked out all the same


async def _read_line(stream: trio.SocketStream) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        piece = await stream.receive_some(MAX_LINE_BYTES)
        line += piece
        if not piece or len(line) > MAX_LINE_BYTES:
            break
    return bytes(line)


def _check_peer(peer: trio.socket.SocketType) -> None:
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, uid, _gid = struct.unpack("3i", credentials)
    if uid not in (0, os.geteuid()):
        raise ControlError("this mount belongs to another user")
