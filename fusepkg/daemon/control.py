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
    """Put a question to a mount's daemon. Raises DaemonNotRunning, or what the daemon answers."""
    try:
        line = msgspec.json.encode(question)
    except UnicodeEncodeError as exc:
        name = printable(" ".join([question.path, *question.paths]).strip())
        raise NoEntry(f"no package has {name!r}", hint="Names in packages are UTF-8") from exc
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(CLIENT_TIMEOUT_S)
            client.connect(str(path))
            client.sendall(line + b"\n")
            with client.makefile("rb") as lines:
                line = lines.readline()
                while line == b"\n":  # the daemon is at work
                    line = lines.readline()
                answer = msgspec.json.decode(line, type=ControlAnswer)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise DaemonNotRunning(
            "the mount's daemon does not answer", hint="If it is dead, `fusepkg umount DIR` and mount again"
        ) from exc
    if answer.facts is None:
        raise error_from_code(answer.code, answer.message, answer.hint)
    return answer.facts
