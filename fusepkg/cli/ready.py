"""Tell systemd that a mount in the foreground is there, as sd_notify(3) does: one datagram to the socket it names."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def notify_ready(words: str) -> None:
    """Say ``READY=1`` and one line of status, if whoever started this process waits for it. Never fails."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if not place.startswith(("/", "@")):
        return
    address = f"\0{place[1:]}" if place.startswith("@") else place
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as client:
        client.sendto(f"READY=1\nSTATUS={words}\n".encode(), address)
