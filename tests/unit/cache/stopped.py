"""A process that is stopped in the middle of a change, as Ctrl-Z does."""

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
from fusepkg_cache import Cache

def hold(change):
    print("held", flush=True)
    sys.stdin.readline()

Cache(Path(sys.argv[1]))._directory().index.change(hold)
"""


@contextmanager
def stopped(directory: Path) -> Iterator[None]:
    """Another process is stopped in the middle of a change; it goes on when the block ends."""
    command = [sys.executable, "-c", HOLD, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)
