"""What a mount's process loads at its start, and what it only reads."""

from __future__ import annotations

import subprocess
import sys

LARGE = {"pyarrow", "duckdb", "numpy", "pandas", "fsspec", "prometheus_client", "torch", "typer", "rich"}

LOAD = "from fusepkg.daemon.preload import load_everything; load_everything(); print(*sys.modules)"
READ = "from fusepkg.daemon.preload import hold_everything; hold_everything()"
READ_ONLY = f"""
import sys, fusepkg.daemon.serve
{READ}
assert "botocore" not in sys.modules
sys.meta_path[:] = [finder for finder in sys.meta_path if getattr(finder, "__name__", "") != "PathFinder"]
"""
"""A program in which no module can be found but those that have been read, and the built-in ones."""


def printed_by(program: str) -> list[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()


def test_a_mount_loads_no_library_of_an_extra_and_none_of_the_command_line() -> None:
    loaded = printed_by(f"import sys; {LOAD}")
    assert "fusepkg.fetch.pipeline" in loaded
    assert LARGE & set(loaded) == set()


def test_what_a_mount_may_import_later_is_read_at_its_start() -> None:
    assert set(printed_by(READ_ONLY + LOAD)) == set(printed_by(f"import sys, fusepkg.daemon.serve; {LOAD}"))
