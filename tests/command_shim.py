"""``fusepkg`` for shells of the documents: hands its files and arguments to ``tests.command_server``, which forks.

Run with ``python -I -S``: it costs 20 ms. Signals are passed on, and it ends as the command does.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys

SERVER = "FUSEPKG_TEST_SERVER"
"""The descriptor of the server's socket, inherited from the test."""


def main() -> None:
    """Run one command."""
    requests = socket.socket(fileno=os.dup(int(os.environ[SERVER])))
    ours, theirs = socket.socketpair()
    socket.send_fds(requests, [b"c"], [theirs.fileno(), 0, 1, 2])
    theirs.close()
    umask = os.umask(0)
    asked = {
        "program": "fusepkg",
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
