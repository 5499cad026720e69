"""What a mount's process loads at its start."""

from __future__ import annotations

import subprocess
import sys

LARGE = {"pyarrow", "duckdb", "numpy", "pandas", "fsspec", "prometheus_client", "torch", "typer", "rich"}


def test_a_mount_loads_no_library_of_an_extra_and_none_of_the_command_line() -> None:
    program = "import sys; from fusepkg.daemon.preload import load_everything; load_everything(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "fusepkg.fetch.pipeline" in loaded
    assert LARGE & set(loaded) == set()
