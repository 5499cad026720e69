from __future__ import annotations

import os
import select
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bench.scratch import scratch_directory

if TYPE_CHECKING:
    from pathlib import Path


def test_it_is_cleared_away_however_the_run_ends(tmp_path: Path) -> None:
    def interrupted() -> None:
        with scratch_directory(tmp_path) as scratch:
            (scratch / "data").write_text("much")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.glob("fusepkg-bench-*")) == []


def test_what_a_killed_run_left_is_cleared_away_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / "fusepkg-bench-left"
    left.mkdir()
    (left / "running").touch()  # nobody holds its lock
    with scratch_directory(tmp_path):
        assert not left.exists()


def test_a_run_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    with scratch_directory(tmp_path) as first:
        with scratch_directory(tmp_path) as second:
            assert first.is_dir()
            assert second != first
        assert first.is_dir()


KILLED = """
import os, subprocess, sys
from pathlib import Path
from bench.scratch import scratch_directory
with scratch_directory(Path(sys.argv[1])) as scratch:
    left = subprocess.Popen(["sleep", "300"], cwd=scratch, start_new_session=True)
    print(left.pid, flush=True)
    sys.stdin.read(1)
    os.kill(os.getpid(), 9)
"""


def test_a_killed_run_leaves_neither_files_nor_programs(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        program = os.pidfd_open(int(run.stdout.readline()))
        run.communicate("x")
    assert run.returncode == -9
    select.select([program], [], [])  # readable once it has ended
    os.close(program)
    while list(tmp_path.glob("fusepkg-bench-*")):  # pytest ends a test that waits for ever
        os.sched_yield()
