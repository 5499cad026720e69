"""What a command loads before it answers. Judged by names of modules, not by time."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys
from fusepkg.cli.main import main
sys.argv = ["fusepkg", *sys.argv[1:]]
try:
    main()
except SystemExit:
    print(json.dumps(sorted(name.partition(".")[0] for name in sys.modules)), file=sys.stderr)
"""

HEAVY = {
    "boto3", "botocore", "httptools", "awscrt", "trio", "pyfuse3", "lmdb", "diskcache", "pydantic", "rich",
    "fusepkg_cache",
}  # fmt: skip


def loaded_by(*arguments: str) -> set[str]:
    """Top-level modules that a command has loaded when it ends."""
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_the_version_needs_no_library():
    assert not loaded_by("--version") & {*HEAVY, "typer", "click", "msgspec", "logging"}


@pytest.mark.parametrize("arguments", [("mounts",), ("mounts", "--json"), ("stat", ".")], ids=" ".join)
def test_questions_about_mounts_load_nothing_that_fetches_or_serves(arguments: tuple[str, ...]):
    assert not loaded_by(*arguments) & HEAVY
