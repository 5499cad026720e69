"""What a command loads before it answers. Judged by names of modules, not by time."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fusepkg.cli.quick import answer_at_once

if TYPE_CHECKING:
    from pathlib import Path

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


def test_questions_about_mounts_load_nothing_that_fetches_or_serves():
    assert not loaded_by("stat", ".") & HEAVY


@pytest.mark.parametrize("arguments", [("mounts",), ("mounts", "--json")], ids=" ".join)
def test_a_list_of_mounts_needs_no_library_for_command_lines(arguments: tuple[str, ...]):
    assert not loaded_by(*arguments) & {*HEAVY, "typer", "click", "subprocess"}


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("mounts", "DIR"),
        ("mounts", "--help"),
        ("mounts", "--json", "--json"),
        ("status", "a", "b"),
        ("status", "-h"),
    ],
    ids=" ".join,
)
def test_only_plain_forms_are_answered_at_once(arguments: tuple[str, ...]):
    assert not answer_at_once(arguments)


def test_a_directory_without_a_mount_is_left_to_the_command(tmp_path: Path):
    assert not answer_at_once(("status", str(tmp_path)))
