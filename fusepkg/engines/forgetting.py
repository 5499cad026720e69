"""Making the kernel forget names: by this process, or by another one, which may be left waiting if this one dies."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from typing import Protocol

from fusepkg.engines import forgetter, notifications

_CLONE = 0x8004E500
"""FUSE_DEV_IOC_CLONE: another descriptor of a session, with requests of its own."""

_END_S = 1.0


class Forgetting(Protocol):
    """Makes the kernel forget names. ``forget`` may wait for programs that use the directory: call it in a thread."""

    def forget(self, parent: int, name: bytes) -> None:
        """Forget one name in a directory, with what is below it and not in use. Raises OSError."""
        ...

    def close(self) -> None:
        """Let go of what that needs."""
        ...


class OwnForgetting:
    """By this process: where another one takes its place if it is killed, and answers whom it waits for."""

    def __init__(self, device: int) -> None:
        self._device = os.dup(device)  # the session may end meanwhile

    def forget(self, parent: int, name: bytes) -> None:
        """Forget a name."""
        notifications.forget_name(self._device, parent, name)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._device)


class ForgettingProcess:
    """By another process, so that kill -9 of this one ends it at once, whatever the kernel waits for.

    Raises OSError where no process can be started.
    """

    def __init__(self, device: int) -> None:
        session = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(session, _CLONE, struct.pack("=I", device))
            self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                numbers = (session, theirs.fileno())
                command = [sys.executable, "-I", "-S", forgetter.__file__, *map(str, numbers)]
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, pass_fds=numbers, env={}, start_new_session=True
                )
        finally:
            os.close(session)
        self._link.recv(forgetter.MAX_MESSAGE_BYTES)  # it is there: a switch takes milliseconds from here on

    def forget(self, parent: int, name: bytes) -> None:
        """Forget a name. Raises OSError; ConnectionError if that process has been killed."""
        self._link.send(notifications.forget_name_message(parent, name))
        told = self._link.recv(forgetter.MAX_MESSAGE_BYTES)
        if not told:
            raise ConnectionAbortedError("the process that tells the kernel what to forget has ended")
        notifications.check_forgotten(struct.unpack("=i", told)[0])

    def close(self) -> None:
        """End the process."""
        self._link.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
