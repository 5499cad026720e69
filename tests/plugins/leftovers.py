"""Fails a run that leaves mounts or daemons behind, names them, and clears them away.

A mount is ours if it lies below the run's temporary directory; a process, if its environment carries the run's mark
(set for everything the run starts) and it runs fusepkg.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    from _pytest.terminal import TerminalReporter

MARK = "FUSEPKG_TEST_RUN"
_FOUND = "leftovers"
CHECKOUT = Path(__file__).parents[2]
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Process:
    """A process somebody forgot. ``test`` is the one that ran when it started."""

    pid: int
    command: str
    test: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command}), started by {self.test or 'no test'}"


def mounts_below(directory: Path) -> list[tuple[str, str]]:
    """Every fuse and erofs mount below a directory, innermost first, as (mountpoint, type)."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        fields = line.split(" ")
        place, kind = _unescape(fields[4]), fields[fields.index("-") + 1]
        if (kind.startswith("fuse") or kind == "erofs") and Path(place).is_relative_to(directory):
            found.append((place, kind))
    return found[::-1]


def runs_fusepkg(command: str, checkout: Path = CHECKOUT) -> bool:
    """Whether a command names fusepkg other than by the checkout that its interpreter lies in."""
    return "fusepkg" in command.replace(str(checkout), "")


def processes_of(mark: str) -> list[Process]:
    """Every fusepkg process a run started that still runs; ``mark`` is the run's."""
    found = []
    for place in Path("/proc").iterdir():
        if not place.name.isdigit() or int(place.name) == os.getpid():
            continue
        with suppress(OSError):  # gone since, or somebody else's
            environment = (place / "environ").read_bytes().split(b"\0")
            command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            if f"{MARK}={mark}".encode() in environment and runs_fusepkg(command):
                test = next((item[20:] for item in environment if item.startswith(b"PYTEST_CURRENT_TEST=")), b"")
                found.append(Process(int(place.name), command, test.decode(errors="replace")))
    return found


class Leftovers:
    """The check of one run."""

    def __init__(self) -> None:
        self.mark = secrets.token_hex(8)
        self.found: list[str] = []

    def clear_away(self, directory: Path) -> None:
        """Detach the mounts below a directory, kill this run's processes, and remember both."""
        for place, kind in mounts_below(directory):
            _detach(place)
            self.found.append(f"{kind} mount at {place}")
        for process in processes_of(self.mark):
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            self.found.append(str(process))

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        result = yield  # the last fixtures are torn down in here
        factory: pytest.TempPathFactory = session.config._tmp_path_factory  # type: ignore[attr-defined]
        self.clear_away(factory.getbasetemp())
        if self.found and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if hasattr(session.config, "workeroutput"):  # one of several processes of a run: the first one reports
            session.config.workeroutput[_FOUND] = self.found
        return result

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what a process of the run has found."""
        self.found += getattr(node, "workeroutput", {}).get(_FOUND, [])

    def pytest_terminal_summary(self, terminalreporter: TerminalReporter) -> None:
        if self.found:
            terminalreporter.section("LEFT BEHIND (the run fails)", sep="!", red=True, bold=True)
            for line in self.found:
                terminalreporter.write_line(line, red=True)


def pytest_configure(config: pytest.Config) -> None:
    plugin = Leftovers()
    os.environ[MARK] = plugin.mark
    config.pluginmanager.register(plugin, "fusepkg-leftovers")


def _detach(place: str) -> None:
    if _libc.umount2(os.fsencode(place), _MNT_DETACH) != 0:  # not root: only a program with setuid may
        subprocess.run(["fusermount3", "-u", "-z", "--", place], stdin=subprocess.DEVNULL, check=False)


def _unescape(field: str) -> str:
    """The kernel writes space, tab, newline and backslash of a path in octal."""
    for code in ("\\040", "\\011", "\\012", "\\134"):
        field = field.replace(code, chr(int(code[1:], 8)))
    return field
