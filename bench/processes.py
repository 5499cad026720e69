"""A program run to its end: how long it took, and the most memory it had.

Owns: starting it and taking its time. Must not know: what it does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.subjects.subject import SubjectFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that ended well: its time from start to end, its peak of resident memory, what it printed."""

    seconds: float
    peak_mb: float
    output: str


def run_program(command: Sequence[str], environ: Mapping[str, str]) -> Ended:
    """Run a program. Raises SubjectFailed where it does not end with 0. Memory counts its own process only."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        start = time.monotonic()
        process = subprocess.Popen(command, env=dict(environ), stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        seconds = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read().decode(errors="replace")
        if process.returncode != 0:
            errors.seek(0)
            complaint = errors.read().decode(errors="replace")
            raise SubjectFailed(f"{' '.join(command)} ended with {process.returncode}: {said}{complaint}")
    return Ended(seconds, usage.ru_maxrss * 1024 / 1e6, said)


def run_statement(environ: Mapping[str, str], *program: str) -> tuple[dict[str, Any], Ended]:
    """Run one of ``bench.programs``, and give what it says of itself."""
    ended = run_program([sys.executable, "-m", "bench.programs", *program], environ)
    facts: dict[str, Any] = json.loads(ended.output.splitlines()[-1])
    return facts, ended
