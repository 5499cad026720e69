"""What the processes of a subject use: memory, its peak, and CPU, read from /proc.

RSS counts every mapped page that is in memory, so also pages of files, which the kernel takes back when it wants them;
PSS shares a page between the processes that map it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.failed import SubjectFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

KINDS = {"rss": "rss", "pss": "pss", "nofile": "rss without file pages"}
"""The kinds of memory, and their names in tables."""

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class _Stat(NamedTuple):
    """One process. ``seconds`` is its CPU, in user mode and in the kernel, with that of children it has waited for."""

    parent: int
    session: int
    seconds: float


def processes_of_session(session: int) -> list[int]:
    """Return every process of a session: a daemon that called setsid, and what it forked."""
    return [process for process, stat in _all_processes().items() if stat.session == session]


def processes_of_mount(process: int, variable: str) -> list[int]:
    """Return every process of a mount of ours: workers and supervisors have sessions of their own.

    Those are the session of ``process``, what was started with ``variable`` (NAME=VALUE) in its environment, and the
    children of all these. Raises SubjectFailed if there are none, or CPU and memory of a mount would be 0.
    """
    stats = _all_processes()
    if process not in stats:
        raise SubjectFailed(f"process {process} of the mount has ended")
    found = {one for one, stat in stats.items() if stat.session == stats[process].session or _has(one, variable)}
    while more := {one for one, stat in stats.items() if stat.parent in found} - found:
        found |= more
    return sorted(found - {os.getpid()})


def memory_of(processes: Iterable[int | str]) -> dict[str, float]:
    """Return MB (10**6 bytes) of all processes together, by kind; a process that has ended has none."""
    total = dict.fromkeys(KINDS, 0.0)
    for process in processes:
        with suppress(OSError, KeyError):  # KeyError: a process that has ended and is not waited for yet
            rollup = _kilobytes(f"/proc/{process}/smaps_rollup")
            status = _kilobytes(f"/proc/{process}/status")
            found = {"rss": rollup["Rss"], "pss": rollup["Pss"], "nofile": status["RssAnon"] + status["RssShmem"]}
            for kind, kilobytes in found.items():
                total[kind] += kilobytes * 1024 / 1e6
    return total


@dataclass(slots=True)
class CpuMeter:
    """The CPU of the processes of a subject from now on."""

    processes: Callable[[], list[int]]
    _before: dict[int, _Stat] = field(init=False)

    def __post_init__(self) -> None:
        self._before = self._now()

    def seconds(self) -> float:
        """Return the CPU seconds used since the start, those of processes that have ended meanwhile included.

        Raises SubjectFailed if a process has ended whose parent is none of these: nothing tells what it used.
        """
        now = self._now()
        lost = [one for one, stat in self._before.items() if one not in now and stat.parent not in now]
        if lost:
            raise SubjectFailed(f"processes {lost} ended during the row; their CPU is not known")
        return sum(stat.seconds for stat in now.values()) - sum(stat.seconds for stat in self._before.values())

    def _now(self) -> dict[int, _Stat]:
        found = {one: stat for one in self.processes() if (stat := _stat(one)) is not None}
        if not found:
            raise SubjectFailed("no process of the mount was found, so its CPU is not known")
        return found


@dataclass(slots=True)
class Peak:
    """The most that was seen of each kind, at whatever moment that was."""

    processes: Callable[[], list[int]]
    seen: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))

    def look(self) -> dict[str, float]:
        """Look now; return what there is now."""
        now = memory_of(self.processes())
        for kind, value in now.items():
            self.seen[kind] = max(self.seen[kind], value)
        return now


def own_process(pid: int) -> Callable[[], list[int]]:
    """Return a subject's only process, as long as it runs."""
    return lambda: [pid] if os.path.exists(f"/proc/{pid}") else []


def _all_processes() -> dict[int, _Stat]:
    names = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return {one: stat for one in names if (stat := _stat(one)) is not None}


def _stat(process: int) -> _Stat | None:
    """Return None for a process that has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return _Stat(int(fields[1]), int(fields[3]), sum(map(int, fields[11:15])) / _TICKS_PER_S)


def _has(process: int, variable: str) -> bool:
    """Whether a process was started with NAME=VALUE in its environment."""
    try:
        return os.fsencode(variable) in Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _kilobytes(path: str) -> dict[str, int]:
    pairs = (line.split(":", 1) for line in Path(path).read_text().splitlines() if line.endswith(" kB"))
    return {name: int(rest.split()[0]) for name, rest in pairs}
