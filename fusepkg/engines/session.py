"""A FUSE session of this process: a new one, or one that another process has begun and left.

libfuse begins each session with the INIT message of the kernel, which an old session does not send again. So it gets
an INIT of ours, over a socket, and the session's descriptor takes the socket's place once it has answered; or it stays
with the socket, and a relay stands between.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

import pyfuse3
import trio

if TYPE_CHECKING:
    from fusepkg.engines.handlers import ReadOnlyOperations
    from fusepkg.engines.relay import Relay

_HEADER = struct.Struct("=IIQQIIII")
_INIT = struct.Struct("=IIIII44x")
"""Version (two numbers), readahead, flags (two numbers) and what is unused."""

_INIT_OPCODE = 26
_VERSION = (7, 38)
_READAHEAD_BYTES = 128 * 1024
_ALL_FLAGS = 0x67FFFFFF
"""What any kernel offers that libfuse may take up; what the kernel granted in truth stays as it is. Not: sub-mounts,
and how privileges are dropped when files are written, which this file system never does."""

_REPLY_BYTES = 4096


async def resume_session(operations: ReadOnlyOperations, ready: trio.Event, device: int, relay: Relay | None) -> None:
    """Let this process serve the session behind ``device``, once ``pyfuse3.main`` runs; with a relay, by that.

    ``ready`` is what the operations set on INIT. Raises RuntimeError.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    number = theirs.detach()
    pyfuse3.init(operations, f"/dev/fd/{number}", set())
    body = _INIT.pack(*_VERSION, _READAHEAD_BYTES, _ALL_FLAGS, 0)
    ours.send(_HEADER.pack(_HEADER.size + len(body), _INIT_OPCODE, 1, 0, 0, 0, 0, 0) + body)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pyfuse3.main)
        await ready.wait()
        nursery.cancel_scope.cancel()
    ours.recv(_REPLY_BYTES)
    if relay is not None:
        relay.begin(os.dup(device), ours)
        return
    os.set_blocking(device, True)  # the relay of another process may have changed that
    with ours:
        os.dup2(device, number, inheritable=False)
