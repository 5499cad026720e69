"""``fusepkg`` for shells of the documents: hands its files and arguments to ``tests.command_server``, which forks.

As ``python-from-input`` it does so with a Python program that it reads. Run with ``python -I -S``: it costs 20 ms.
Signals are passed on, and it ends as the command does.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys

SERVERS = "FUSEPKG_TEST_SERVERS"
"""The descriptors of the two servers' sockets, inherited from the test: the plain one, and the one with extras."""

WITH_EXTRAS = frozenset(
    {"check", "csi", "csi-mounter", "datasets", "labels", "metrics", "pool", "query", "snapshot", "task", "tasks"}
)
"""Commands that import libraries which only some users have."""


def needs_extras(arguments: list[str]) -> bool:
    """Whether a command is better forked from the server that has imported the libraries of extras."""
    return arguments[:1] != [] and (arguments[0] in WITH_EXTRAS or "--where" in arguments)


def main() -> None:
    """Run one command."""
    is_python = os.path.basename(sys.argv[0]) == "python-from-input"
    plain, extras = os.environ[SERVERS].split()
    requests = socket.socket(fileno=os.dup(int(extras if is_python or needs_extras(sys.argv[1:]) else plain)))
    ours, theirs = socket.socketpair()
    socket.send_fds(requests, [b"c"], [theirs.fileno(), 0, 1, 2])
    theirs.close()
    umask = os.umask(0)
    asked = {
        **({"source": sys.stdin.read()} if is_python else {"program": "fusepkg"}),
        "arguments": sys.argv[1:],
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "umask": umask,
    }
    ours.sendall(json.dumps(asked).encode())
    ours.shutdown(socket.SHUT_WR)
    answers = ours.makefile("rb")
    pid = int(answers.readline())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(pid, number))
    code = os.waitstatus_to_exitcode(int(answers.readline()))
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main()
