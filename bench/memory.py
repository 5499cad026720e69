"""What the processes of a subject use: memory, its peak, and CPU, read from /proc.

RSS counts every mapped page that is in memory, so also those of LMDB's file, which the kernel takes back when it wants
them; PSS shares a page between the processes that map it; anonymous memory is what is really taken.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

KINDS = {"rss": b"Rss", "pss": b"Pss", "anon": b"Anonymous"}
"""The kinds of memory, and their names in smaps_rollup."""


def processes_of_session(session: int) -> list[int]:
    """Every process of a session: a daemon that called setsid, and whatever it forked."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with suppress(OSError):
                fields = (place / "stat").read_bytes().rpartition(b")")[2].split()
                if int(fields[3]) == session:
                    found.append(int(place.name))
    return found


def memory_of(processes: Iterable[int]) -> dict[str, float]:
    """MB (10**6 bytes) of all processes together, by kind; a process that has ended has none."""
    total = dict.fromkeys(KINDS, 0.0)
    for process in processes:
        with suppress(OSError):
            lines = Path(f"/proc/{process}/smaps_rollup").read_bytes().splitlines()
            numbers = {name: int(rest.split()[0]) for name, _, rest in (line.partition(b":") for line in lines[1:])}
            for kind, name in KINDS.items():
                total[kind] += numbers[name] * 1024 / 1e6
    return total


def cpu_seconds(processes: Iterable[int]) -> float:
    """CPU that processes have used since they started, in user mode and in the kernel."""
    total = 0
    for process in processes:
        with suppress(OSError):
            fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Peak:
    """The most that was seen of each kind, at whatever moment that was."""

    processes: Callable[[], list[int]]
    seen: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))

    def look(self) -> dict[str, float]:
        """Look now; gives what there is now."""
        now = memory_of(self.processes())
        for kind, value in now.items():
            self.seen[kind] = max(self.seen[kind], value)
        return now


def own_process(pid: int) -> Callable[[], list[int]]:
    """A subject's only process, as long as it runs."""
    return lambda: [pid] if os.path.exists(f"/proc/{pid}") else []
