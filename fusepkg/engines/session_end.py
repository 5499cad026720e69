"""When the kernel has ended a FUSE session."""

from __future__ import annotations

import os
import select

import trio

_DEVICE = "/dev/fuse"


async def wait_for_session_end() -> None:
    """Wait until the session of this process is over: unmounted, or aborted.

    pyfuse3 tells only when the last request has been answered, and one may hang on its bucket for minutes. Waits for
    ever where there is no session.
    """
    with select.epoll() as watched:
        for descriptor in _session_descriptors():
            watched.register(descriptor, 0)  # errors are reported without being asked for: EPOLLERR means the end
        await trio.lowlevel.wait_readable(watched.fileno())


def is_over(device: int) -> bool:
    """Return whether the session behind a descriptor is over."""
    watched = select.poll()
    watched.register(device, 0)
    return bool(watched.poll(0))


def session_device() -> int:
    """Return the descriptor of this process's session."""
    return _session_descriptors()[0]


def _session_descriptors() -> list[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == _DEVICE:
                found.append(int(name))
        except OSError:  # the one that was open for listing
            continue
    return found
