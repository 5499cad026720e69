"""An S3 server that tells checksums: moto's, a process of its own, spoken to over HTTP like any other."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from tests.rgw import Credentials, Gateway

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

START_TIMEOUT_S = 60.0
POLL_S = 0.05

_READY = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")


def start_moto(directory: Path, stack: ExitStack) -> Gateway:
    """Start a server; ``stack`` ends it. Everybody may do everything there, and its users cannot be told apart."""
    log = directory / "moto.log"
    command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=directory)
    stack.callback(process.wait)
    stack.callback(process.kill)
    deadline = time.monotonic() + START_TIMEOUT_S
    while not (ready := _READY.search(log.read_text(errors="replace"))):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"moto did not start:\n{log.read_text(errors='replace')[-1500:]}")
        time.sleep(POLL_S)
    return Gateway(ready[1], Credentials("test", "test"), directory)
