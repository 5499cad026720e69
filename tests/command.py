"""The command line as a user runs it: another process, its own interpreter, its output caught.

Must not know: what any command does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from pathlib import Path

COMMAND_TIMEOUT_S = 120.0
"""No command a test runs takes a tenth of this; past it, it hangs."""


class Fusepkg(Protocol):
    """What the fixture ``fusepkg`` is: ``fusepkg("ls", reference).stdout``."""

    def __call__(
        self,
        *arguments: object,
        check: bool = True,
        timeout: float = COMMAND_TIMEOUT_S,
        stdin: str = "",
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """``check`` fails the test, showing all output, unless the exit code is 0; ``env`` is added to ours."""
        ...


def run_fusepkg(
    *arguments: object,
    check: bool = True,
    timeout: float = COMMAND_TIMEOUT_S,
    stdin: str = "",
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fusepkg", *(str(argument) for argument in arguments)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, input=stdin, cwd=cwd,
            env={**os.environ, **(env or {})}, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as exc:
        said = f"--- stdout\n{_text(exc.stdout)}\n--- stderr\n{_text(exc.stderr)}"
        pytest.fail(f"no end after {timeout:.0f} s, or something it left keeps its output open: {command}\n{said}")
    if check and done.returncode != 0:
        said = f"--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
        pytest.fail(f"exit code {done.returncode}: {command}\n{said}")
    return done


def _text(output: bytes | str | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""
