"""The command line as a user runs it: another process with its output caught.

A process forked by ``tests.command_server``, unless the environment holds what only a fresh interpreter obeys.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, BinaryIO, Protocol

import pytest

from tests.command_shim import needs_extras

COMMAND_TIMEOUT_S = 120.0
"""No command a test runs takes a tenth of this; past it, it hangs."""

_READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "TYPER_", "TERMINAL_WIDTH", "FORCE_COLOR", "PY_COLORS")
"""Beginnings of the names of variables that are read while the interpreter or a library starts."""

_ROOM_BYTES = 8192
"""For what ``ps`` and /proc show of a command: its arguments, and its environment."""


class Fusepkg(Protocol):
    """What the fixture ``fusepkg`` is: ``fusepkg("ls", reference).stdout``."""

    def __call__(
        self,
        *arguments: object,
        check: bool = True,
        timeout: float = COMMAND_TIMEOUT_S,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """``check`` fails the test, showing all output, unless the exit code is 0; ``env`` is added to ours."""
        ...


def run_fusepkg(
    *arguments: object,
    check: bool = True,
    timeout: float = COMMAND_TIMEOUT_S,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fusepkg", *(str(argument) for argument in arguments)]
    environment = {**os.environ, **(env or {})}
    try:
        if _read_at_start(environment) == _AT_START:
            server = _extras_server if needs_extras(command[3:]) else _server
            done = server.run(command, Path(cwd or "").absolute(), environment, timeout)
        else:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, cwd=cwd,
                env=environment, check=False,
            )  # fmt: skip
    except subprocess.TimeoutExpired as exc:
        said = f"--- stdout\n{_text(exc.stdout)}\n--- stderr\n{_text(exc.stderr)}"
        pytest.fail(f"no end after {timeout:.0f} s, or something it left keeps its output open: {command}\n{said}")
    if check and done.returncode != 0:
        said = f"--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
        pytest.fail(f"exit code {done.returncode}: {command}\n{said}")
    return done


def run_source(source: str, given: str, cwd: Path, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run Python, with this as its input, in a process that finds what quilt3 needs imported. Raises TimeoutExpired."""
    with TemporaryFile() as file:
        file.write(given.encode())
        file.seek(0)
        return _quilt3_server.run([sys.executable, "-c", "..."], cwd, dict(os.environ), timeout, source, file)


def end_server() -> None:
    """End the processes that fork the commands; the next command starts another."""
    for server in (_server, _extras_server, _quilt3_server):
        server.end()


def server_descriptors() -> tuple[int, int]:
    """The descriptors of the servers' sockets, for ``tests.command_shim``: the plain one, the one with extras."""
    return _server.descriptor(), _extras_server.descriptor()


def _read_at_start(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_READ_AT_START)}


def _text(output: bytes | str | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


_AT_START = _read_at_start(dict(os.environ))


class _Server:
    """The process that forks commands, started by the first of them. It imports what this package needs."""

    def __init__(self, package: str) -> None:
        self._package = package
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None

    def run(
        self,
        command: list[str],
        directory: Path,
        environment: dict[str, str],
        timeout_s: float,
        source: str | None = None,
        stdin: IO[bytes] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, or this Python, to its end. Raises TimeoutExpired, having killed it."""
        deadline_s = time.monotonic() + timeout_s
        umask = os.umask(0)
        os.umask(umask)
        asked = {"arguments": command[3:], "environment": environment, "directory": str(directory), "umask": umask}
        asked |= {} if source is None else {"source": source}
        with ExitStack() as stack:
            ours, outputs = self._send(stack, stdin)
            ours.sendall(json.dumps(asked).encode())
            ours.shutdown(socket.SHUT_WR)
            answers = stack.enter_context(ours.makefile("rb"))
            pid = int(answers.readline())
            said = [b"", b""]
            try:
                _read_all(outputs, said, deadline_s)
                ours.settimeout(max(0.01, deadline_s - time.monotonic()))
                status = int(answers.readline())
            except TimeoutError:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(command, timeout_s, *said) from None
        stdout, stderr = (data.decode().replace("\r\n", "\n").replace("\r", "\n") for data in said)
        return subprocess.CompletedProcess(command, os.waitstatus_to_exitcode(status), stdout, stderr)

    def _send(self, stack: ExitStack, stdin: IO[bytes] | None) -> tuple[socket.socket, list[BinaryIO]]:
        """Ask for a command; the conversation with it, and its two outputs."""
        ours, theirs = socket.socketpair()
        stack.enter_context(ours)
        pipes = [os.pipe(), os.pipe()]
        outputs: list[BinaryIO] = [stack.enter_context(os.fdopen(reading, "rb")) for reading, _ in pipes]
        with theirs, open(os.devnull, "rb") as nothing, self._lock:
            handed = [theirs.fileno(), (stdin or nothing).fileno(), *(writing for _, writing in pipes)]
            socket.send_fds(self._started(), [b"c"], handed)
        for _, writing in pipes:
            os.close(writing)
        return ours, outputs

    def descriptor(self) -> int:
        """Start it if need be; its socket."""
        with self._lock:
            return self._started().fileno()

    def _started(self) -> socket.socket:
        if self._requests is None or self._process is None or self._process.poll() is not None:
            self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            room = "." * _ROOM_BYTES
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.command_server", self._package, room],
                stdin=theirs, cwd=Path(__file__).parents[1], env={**os.environ, **_AT_START, "FUSEPKG_TEST_ROOM": room},
            )  # fmt: skip
            theirs.close()
        return self._requests

    def end(self) -> None:
        """End it: it does so by itself when the socket is closed."""
        if self._requests is not None and self._process is not None:
            self._requests.close()
            self._process.wait()
            self._requests = self._process = None


def _read_all(outputs: list[BinaryIO], said: list[bytes], deadline_s: float) -> None:
    """Read the outputs into ``said`` until nobody has them open. Raises TimeoutError."""
    with selectors.DefaultSelector() as selector:
        for number, output in enumerate(outputs):
            selector.register(output, selectors.EVENT_READ, number)
        while selector.get_map():
            ready = selector.select(deadline_s - time.monotonic())
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                if read := os.read(key.fd, 65536):
                    said[key.data] += read
                else:
                    selector.unregister(key.fileobj)


_server = _Server("fusepkg")
_extras_server = _Server("extras")
_quilt3_server = _Server("quilt3")
