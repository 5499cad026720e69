"""The commands of stages as processes, which all end when the run is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from fusepkg.errors import TaskError

if TYPE_CHECKING:
    from pathlib import Path

    from fusepkg.pipeline.stages import Stage

_SHELL_OPTIONS = {"bash": ["--noprofile", "--norc"], "zsh": ["--no-rcs"]}
"""What keeps a shell from reading the user's files, as DVC does."""

_PATIENCE_S = 5.0
"""How long a command has to end by itself once it is told to."""

_LOOK_AGAIN_S = 0.02


class Commands:
    """Runs commands in threads; ``stop`` ends those that run, with all they started, and lets no other begin."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._is_stopped = False

    def run(self, stage: Stage) -> None:
        """Run the command of a stage, line by line, in its directory. Raises TaskError if a line fails."""
        for line in stage.command if isinstance(stage.command, list) else stage.command.splitlines():
            if line.strip():
                self._run_line(stage, line)

    def stop(self) -> None:
        """End all commands and what they started: SIGTERM, and SIGKILL for what is left after 5 s."""
        with self._lock:
            self._is_stopped = True
            running = list(self._running)
        for process in running:
            _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + _PATIENCE_S
        while any(_signal(process, 0) for process in running) and time.monotonic() < deadline:
            time.sleep(_LOOK_AGAIN_S)
        for process in running:
            _signal(process, signal.SIGKILL)

    def _run_line(self, stage: Stage, line: str) -> None:
        shell = os.environ.get("SHELL") or "/bin/sh"
        options = _SHELL_OPTIONS.get(os.path.basename(shell), [])
        environment = {"DVC_ROOT": str(self._root), **os.environ, "DVC_STAGE": stage.name}
        with self._lock:
            if self._is_stopped:
                raise TaskError(f"stage {stage.name} was stopped")
            try:
                process = subprocess.Popen(
                    [shell, *options, "-c", line],
                    cwd=stage.directory,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    process_group=0,
                )
            except OSError as exc:
                raise TaskError(f"stage {stage.name} cannot be run: {exc.filename}: {exc.strerror}") from exc
            self._running.add(process)
        code = process.wait()
        with self._lock:
            self._running.discard(process)
        if code:
            how = f"exit code {code}" if code > 0 else f"signal {-code}"
            raise TaskError(
                f"stage {stage.name} failed with {how}: {line}",
                hint="Its output is above; dvc.lock has what it had before, and all stages that were done",
            )


def _signal(process: subprocess.Popen[bytes], number: int) -> bool:
    """Send a signal to a command and what it started; return whether any of that was there. 0 only looks."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
        return True
    return False
