"""A process that is stopped in the middle of a transaction, as Ctrl-Z does."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOLD = """
import sys, time
from pathlib import Path
from fusepkg_cache.environment import Environment
from fusepkg_cache.layout import prepare

def hold(changes):
    print("held", flush=True)
    sys.stdin.readline()

Environment(prepare(Path(sys.argv[1]))).change(hold)
"""


@contextmanager
def stopped(directory: Path) -> Iterator[None]:
    """Another process is stopped in the middle of a transaction; it goes on when the block ends."""
    command = [sys.executable, "-c", HOLD, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)
