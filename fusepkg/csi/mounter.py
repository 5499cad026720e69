"""Run `fusepkg mount` and `fusepkg umount` for a driver: here, or in the mounter, a process that outlives drivers.

Processes of a mount end with the container that started them. So in a cluster this container does nothing but to start
them, and the driver, which is replaced more often, is another one. It asks over a Unix socket: one connection per
command, one JSON object with its arguments and the path of a file of credentials, answered with what it prints.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from fusepkg.csi.listening import listen
from fusepkg.errors import ControlError, MountFailed, UsageError
from fusepkg.model.reported_error import error_from_code

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[[list[str], Path | None], str]
    """Runs a command of fusepkg with the credentials of a file, or with those of the node."""

log = logging.getLogger(__name__)

COMMANDS = ("mount", "umount")
"""What a mounter runs, and nothing else."""

_FIRST_WORDS = [[command] for command in COMMANDS]

_KEPT_OF_AWS = ("AWS_CA_BUNDLE", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION")
"""What of the environment a mount with credentials of its own goes by; the rest could be other credentials."""

_MAX_REQUEST_BYTES = 1 << 18
_REQUEST_TIMEOUT_S = 10.0
"""A driver sends its request at once; one that does not must not keep others waiting for long."""

_PROGRAM = f"import sys; sys.path.append({str(Path(__file__).parents[2])!r}); from fusepkg.cli.main import main; main()"
"""The command finds fusepkg where this process did."""


def run_here(arguments: list[str], credentials: Path | None) -> str:
    """Run a command of fusepkg; return what it printed. Raises the error that it reported."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *_for_programs(arguments)],
        env=_environment(credentials),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return _checked(done.stdout.decode(errors="replace"))


def run_at(place: Path) -> Run:
    """Return what runs a command in the mounter that listens there. It raises ControlError where none answers."""

    def run(arguments: list[str], credentials: Path | None) -> str:
        facts = {"arguments": _for_programs(arguments), "credentials": str(credentials or "")}
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.connect(str(place))
                client.sendall(json.dumps(facts).encode())
                client.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
        except OSError as exc:
            raise ControlError(
                f"the mounter at {place} does not answer: {exc.strerror or exc}", hint="See the log of its container"
            ) from exc
        return _checked(answer.decode(errors="replace"))

    return run


def _for_programs(arguments: list[str]) -> list[str]:
    return [arguments[0], "--json", *arguments[1:]]


def _checked(output: str) -> str:
    for line in output.splitlines():
        with suppress(ValueError, KeyError, TypeError):
            if line.startswith('{"error"'):
                facts: dict[str, Any] = json.loads(line)["error"]
                raise error_from_code(facts["code"], facts["message"], facts["hint"])
    if not output.rstrip().endswith("}"):
        raise MountFailed("the command that mounts ended early", hint=output.strip()[-500:])
    return output


def serve(place: Path) -> NoReturn:
    """Run commands for drivers until SIGTERM or Ctrl-C. Raises UsageError, SystemFailure.

    As the first process of a container it inherits what mounts leave behind; the kernel clears that away.
    """
    listener = listen(place)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    log.info("mounting for drivers that ask at %s", place)
    while True:
        connection, _ = listener.accept()
        with connection:
            try:
                connection.settimeout(_REQUEST_TIMEOUT_S)
                _start(*_request_of(connection), connection)
            except (OSError, UsageError) as exc:
                log.warning("a request was refused: %s", exc)


def _request_of(connection: socket.socket) -> tuple[list[str], Path | None]:
    data = b""
    while more := connection.recv(1 << 16):
        data += more
        if len(data) > _MAX_REQUEST_BYTES:
            raise UsageError(f"a request has more than {_MAX_REQUEST_BYTES} bytes")
    try:
        request = json.loads(data)
        arguments, credentials = list(request["arguments"]), request["credentials"]
    except (ValueError, KeyError, TypeError) as exc:
        raise UsageError("a request is not JSON with arguments and credentials") from exc
    if not all(isinstance(text, str) for text in (*arguments, credentials)) or arguments[:1] not in _FIRST_WORDS:
        raise UsageError(f"a request is not for one of {', '.join(COMMANDS)}")
    return arguments, Path(credentials) if credentials else None


def _start(arguments: list[str], credentials: Path | None, connection: socket.socket) -> None:
    """Start a command that prints into the connection, which ends with it."""
    connection.setblocking(True)
    os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", _PROGRAM, *arguments],
        _environment(credentials),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, connection.fileno(), 1),
            (os.POSIX_SPAWN_DUP2, connection.fileno(), 2),
        ],
        setsigdef=[signal.SIGCHLD, signal.SIGTERM],
    )


def _environment(credentials: Path | None) -> dict[str, str]:
    """Return what a command finds around it; credentials of a file are then the only ones."""
    if credentials is None:
        return dict(os.environ)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_") or name in _KEPT_OF_AWS}
    alone = {"AWS_SHARED_CREDENTIALS_FILE": str(credentials), "AWS_CONFIG_FILE": os.devnull}
    return kept | alone | {"AWS_EC2_METADATA_DISABLED": "true"}
