"""Whether a mount's process has grown beyond what it should need: more is a leak, and a new process ends it."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_S = 30.0

SETTLED_S = 600.0
"""A process is not replaced before it is so old: one that needs so much at once would be replaced again and again."""

_FULL = 0.8
"""The share of the descriptors it may have that is too many."""

_PAGE_BYTES = resource.getpagesize()


def what_has_grown(max_bytes: int) -> str:
    """Return what this process has too much of, "" if nothing. ``max_bytes`` is for its memory."""
    try:
        _, resident, shared, *_ = (int(word) for word in Path("/proc/self/statm").read_text().split())
        descriptors = len(os.listdir("/proc/self/fd"))
    except OSError:
        return "no descriptor is free"
    memory = (resident - shared) * _PAGE_BYTES  # without what is mapped of files: the index, the cache
    if memory > max_bytes:
        return f"{memory:,} bytes of memory, more than {max_bytes:,}"
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if descriptors > most * _FULL:
        return f"{descriptors:,} descriptors open, of {most:,}"
    return ""


def machine_bytes() -> int:
    """Return how much memory the machine has."""
    return os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES


async def watch_growth(max_bytes: int, replace: Callable[[str], None]) -> None:
    """Call ``replace`` with the reason whenever this process has grown too large."""
    await trio.sleep(SETTLED_S)
    while True:
        reason = what_has_grown(max_bytes)
        if reason:
            replace(reason)
        await trio.sleep(LOOK_S)
