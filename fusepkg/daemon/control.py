"""Questions to a running mount: one JSON line over a private unix socket, one line back."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import msgspec

from fusepkg.errors import DaemonNotRunning, NoEntry
from fusepkg.model.reported_error import error_from_code

if TYPE_CHECKING:
    from pathlib import Path

PROTOCOL = 1
"""Raised with each change that an older client or daemon would misread."""

CLIENT_TIMEOUT_S = 10.0
"""How long a client waits for an answer, or a sign that the daemon is at work on it: both come in a second."""

TRIES = 3
"""How often a question is put whose process dies before it has answered: the next one has the same socket. Fewer than
the crashes that end a mount, so that no question can end one that kills each process."""

_REPEATABLE = ("status", "stat", "plan", "switch", "follow")
"""Questions that may be put twice: the second switch to a version finds it shown."""


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``what`` is ``status``, ``stat``, ``plan``, ``switch``, ``follow``, ``prefetch``, ``profile_record``, or of
    their kin.

    ``path`` and ``paths`` are relative to the mount's root, ``rate`` is in bytes per second (0: no bound), ``number``
    that of a prefetch. For ``plan``, ``switch`` and ``follow``, ``path`` is a tag, or an ``@`` and a hash; empty for
    ``follow``: no tag is followed any more. For ``profile_record`` it is the profile's name.
    """

    what: str
    path: str = ""
    protocol: int = PROTOCOL
    paths: tuple[str, ...] = ()
    rate: int = 0
    number: int = 0


class ControlAnswer(msgspec.Struct, frozen=True):
    """``facts``, or an error by its code."""

    facts: dict[str, Any] | None = None
    code: str = ""
    message: str = ""
    hint: str = ""


def printable(text: str) -> str:
    """Text that JSON can hold: names that are not UTF-8 arrive with surrogates in them."""
    return text.encode(errors="backslashreplace").decode()


def ask(path: Path, question: Question) -> dict[str, Any]:
    """Put a question to a mount's daemon, and to the one that replaces it if it dies meanwhile.

    Raises DaemonNotRunning, or what the daemon answers.
    """
    try:
        asked = msgspec.json.encode(question)
    except UnicodeEncodeError as exc:
        name = printable(" ".join([question.path, *question.paths]).strip())
        raise NoEntry(f"no package has {name!r}", hint="Names in packages are UTF-8") from exc
    tries = TRIES if question.what in _REPEATABLE else 1
    try:
        told = b""
        while tries and not told:
            tries -= 1
            told = _told(path, asked)
        answer = msgspec.json.decode(told, type=ControlAnswer)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise DaemonNotRunning(
            "the mount's daemon does not answer", hint="If it is dead, `fusepkg umount DIR` and mount again"
        ) from exc
    if answer.facts is None:
        raise error_from_code(answer.code, answer.message, answer.hint)
    return answer.facts


def _told(path: Path, asked: bytes) -> bytes:
    """Return the line that answers a question; b"" if the process has ended before. Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(CLIENT_TIMEOUT_S)
        client.connect(str(path))
        try:
            client.sendall(asked + b"\n")
            with client.makefile("rb") as lines:
                line = lines.readline()
                while line == b"\n":  # the daemon is at work
                    line = lines.readline()
                return line
        except ConnectionError:
            return b""
