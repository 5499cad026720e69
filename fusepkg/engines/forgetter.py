"""Sends notifications to the kernel that wait for readers; run by its path, in a process of its own.

Such a notification waits, and cannot be killed, until no program lists or looks into the directory; and these wait for
answers of the mount's process. Were it that process's own, kill -9 would not end it: its session would stay open, and
all readers would hang. This process has a descriptor of the session of its own. When the mount's process has died
meanwhile, it answers readers with an error until the notification comes back, and ends; the session ends with it.

Arguments: the session's descriptor, and the socket to the mount's process, over which messages for the kernel come, and
0 or an errno goes back for each. It imports nothing but a little of the standard library, to start quickly.
"""

from __future__ import annotations

import _thread
import errno
import os
import socket
import struct
import sys

MAX_MESSAGE_BYTES = 4096
"""Of a notification: a name has 255 bytes at most."""

_MAX_REQUEST_BYTES = 2 << 20
"""Room that the kernel asks for: for its largest write, which a read-only mount never sees, and its header."""

_REQUEST = struct.Struct("=IIQ")
"""Begin of a request: length, what is asked, and its number."""

_REPLY = struct.Struct("=IiQ")

_DONE = struct.pack("=i", 0)


class Forgetter:
    """``is_left`` is set once the mount's process has ended, or needs this one no longer."""

    def __init__(self, device: int, link: socket.socket) -> None:
        self._device = device
        self._link = link
        self._busy = _thread.allocate_lock()
        self._is_left = False

    def run(self) -> None:
        """Say hello, send what comes; at the end of the link, answer readers as long as a notification waits."""
        self._link.send(_DONE)
        while message := self._link.recv(MAX_MESSAGE_BYTES):
            self._busy.acquire()
            _thread.start_new_thread(self._send, (message,))
        self._is_left = True
        while self._busy.locked():
            self._answer_one()

    def _send(self, message: bytes) -> None:
        number = 0
        try:
            os.write(self._device, message)
        except OSError as exc:
            number = exc.errno or errno.EIO
        if self._is_left:
            os._exit(0)
        self._busy.release()
        try:
            self._link.send(struct.pack("=i", number))
        except OSError:  # the mount's process has ended just now
            os._exit(0)

    def _answer_one(self) -> None:
        """Take a request, and answer it with an error, unless it is of a kind that has no answer."""
        request = os.read(self._device, _MAX_REQUEST_BYTES)
        number = _REQUEST.unpack_from(request)[2]
        try:
            os.write(self._device, _REPLY.pack(_REPLY.size, -errno.ENOTCONN, number))
        except OSError:  # it has none, or its program was killed
            return


def main() -> None:
    """Be that process."""
    try:
        Forgetter(int(sys.argv[1]), socket.socket(fileno=int(sys.argv[2]))).run()
    except OSError:  # the session has ended
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()
