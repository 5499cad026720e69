"""Questions to a running mount: one JSON line over a private unix socket, one line back.

Owns: the protocol, its version, the server's side and the client's. Must not know: what the answers mean.

The socket has mode 0600 in a 0700 directory, and the server checks the peer's user id besides. A question that
cannot be read gets an error line and the connection is closed; nothing a client sends can end the server.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from fusepkg.errors import ControlError, DaemonNotRunning, FusepkgError, NoEntry, ProtocolMismatch, error_from_code

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger(__name__)

PROTOCOL = 1
"""Raised with each change that an older client or daemon would misread."""

MAX_LINE_BYTES = 64 * 1024
"""Longest question: a path of 4 KiB, escaped, fits many times."""

CLIENT_TIMEOUT_S = 10.0
"""How long a client waits for an answer: a daemon that fetches answers in milliseconds."""

SERVER_TIMEOUT_S = 10.0
"""How long a client may take to send its line."""


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``what`` is ``status`` or ``stat``; ``path`` is relative to the mount's root."""

    what: str
    path: str = ""
    protocol: int = PROTOCOL


class Answer(msgspec.Struct, frozen=True):
    """``facts``, or an error by its code."""

    facts: dict[str, Any] | None = None
    code: str = ""
    message: str = ""
    hint: str = ""


async def serve_control(
    path: Path, answer: Callable[[Question], dict[str, Any]], *, task_status: trio.TaskStatus[None]
) -> None:
    """Answer questions until cancelled. ``answer`` runs on the event loop and must not block for long."""
    listener = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    await listener.bind(str(path))
    os.chmod(path, 0o600)  # the directory is private already; the umask belongs to the whole process
    listener.listen()

    async def reply(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                with trio.move_on_after(SERVER_TIMEOUT_S):
                    await stream.send_all(await _answer_one(stream, answer) + b"\n")
            except trio.BrokenResourceError:
                log.debug("a control client went away")

    task_status.started()
    await trio.serve_listeners(reply, [trio.SocketListener(listener)])


async def _answer_one(stream: trio.SocketStream, answer: Callable[[Question], dict[str, Any]]) -> bytes:
    try:
        _check_peer(stream.socket)
        question = msgspec.json.decode(await _read_line(stream), type=Question)
        if question.protocol != PROTOCOL:
            raise ProtocolMismatch(
                f"the client speaks control protocol {question.protocol}, this mount {PROTOCOL}",
                hint="Use the fusepkg that made the mount, or mount again",
            )
        return _answered(question, answer)
    except FusepkgError as exc:
        return msgspec.json.encode(Answer(code=exc.code, message=_printable(exc.message), hint=_printable(exc.hint)))
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        return msgspec.json.encode(Answer(code=ControlError.code, message=f"the question cannot be read: {exc}"))


def _answered(question: Question, answer: Callable[[Question], dict[str, Any]]) -> bytes:
    try:
        return msgspec.json.encode(Answer(facts=answer(question)))
    except FusepkgError:
        raise
    except Exception as exc:
        log.exception("a question for %r failed with a bug in fusepkg", question.what)
        raise ControlError(f"the mount's daemon failed to answer: {exc!r}", hint="Its log has more") from exc


def _printable(text: str) -> str:
    """Text that JSON can hold: names that are not UTF-8 arrive with surrogates in them."""
    return text.encode(errors="backslashreplace").decode()


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


def ask(path: Path, question: Question) -> dict[str, Any]:
    """Put a question to a mount's daemon. Raises DaemonNotRunning, or what the daemon answers."""
    try:
        line = msgspec.json.encode(question)
    except UnicodeEncodeError as exc:
        raise NoEntry(f"no package has {_printable(question.path)!r}", hint="Names in packages are UTF-8") from exc
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(CLIENT_TIMEOUT_S)
            client.connect(str(path))
            client.sendall(line + b"\n")
            with client.makefile("rb") as lines:
                answer = msgspec.json.decode(lines.readline(), type=Answer)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise DaemonNotRunning(
            "the mount's daemon does not answer", hint="If it is dead, `fusepkg umount DIR` and mount again"
        ) from exc
    if answer.facts is None:
        raise error_from_code(answer.code, answer.message, answer.hint)
    return answer.facts
