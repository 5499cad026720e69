"""A program run to its end: how long it took."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.failed import SubjectFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that ended well: its time from start to end, and what it printed."""

    seconds: float
    output: str


def run_program(command: Sequence[str], environ: Mapping[str, str]) -> Ended:
    """Run a program. Raises SubjectFailed where it does not end with 0."""
    start = time.monotonic()
    done = subprocess.run(
        command, env=dict(environ), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - start
    if done.returncode != 0:
        raise SubjectFailed(f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return Ended(seconds, done.stdout)


def run_statement(environ: Mapping[str, str], *program: str) -> dict[str, Any]:
    """Run one of ``bench.programs``, and give what it says of itself."""
    ended = run_program([sys.executable, "-m", "bench.programs", *program], environ)
    facts: dict[str, Any] = json.loads(ended.output.splitlines()[-1])
    return facts
