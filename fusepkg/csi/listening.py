"""Unix sockets that services listen at: only this user may connect, and a living service keeps its own."""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg.errors import SystemFailure, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_BYTES = 107
"""Longest path of a Unix socket: sun_path has 108 bytes with the closing zero."""

_BACKLOG = 64


def unix_path(text: str, option: str) -> Path:
    """Return the path in ``unix:///csi/csi.sock``, or a path without a scheme. Raises UsageError naming the option."""
    path = text.removeprefix("unix://").removeprefix("unix:")
    if not path.startswith("/"):
        raise UsageError(f"{option} {text} is not an absolute path of a Unix socket", hint="unix:///csi/csi.sock")
    if len(os.fsencode(path)) > _MAX_BYTES:
        raise UsageError(
            f"{option} {path} is longer than {_MAX_BYTES} bytes",
            hint="Sockets need shorter paths: take another directory",
        )
    return Path(path)


def clear_place(path: Path) -> None:
    """Remove the socket that a killed process left there. Raises SystemFailure where one still listens, or cannot."""
    try:
        with private():  # those above too: the directory of records may be one of them
            path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_socket():
            if os.path.lexists(path):
                raise SystemFailure(f"{path} is there already and is not a socket", hint="Name another path")
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            try:
                client.connect(str(path))
            except OSError:
                path.unlink(missing_ok=True)
                return
    except OSError as exc:
        raise SystemFailure(f"{path} cannot be listened at: {exc.strerror or exc}") from exc
    raise SystemFailure(f"another process listens at {path}", hint="One driver per node: end the other one first")


def listen(path: Path) -> socket.socket:
    """Return a socket that listens there, for this user only. Raises SystemFailure."""
    clear_place(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with private():
            listener.bind(str(path))
        listener.listen(_BACKLOG)
    except OSError as exc:
        listener.close()
        raise SystemFailure(f"{path} cannot be listened at: {exc.strerror or exc}") from exc
    return listener


@contextmanager
def private() -> Iterator[None]:
    """Have what this process makes while the block runs be for this user only."""
    mask = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(mask)
