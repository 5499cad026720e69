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


def test_what_talks_to_s3_is_loaded_after_all_else_where_the_registry_is_a_directory() -> None:
    program = (
        "import sys; from fusepkg.daemon.preload import load_everything, load_s3; load_everything(with_s3=False); "
        "assert not {'boto3', 'botocore', 'httptools'} & set(sys.modules); before = set(sys.modules); "
        "load_s3(); print(*(set(sys.modules) - before))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "botocore" in loaded
    assert {name for name in loaded if name.startswith("fusepkg")} == {
        name for name in loaded if name.startswith("fusepkg.store.s3.")
    }
