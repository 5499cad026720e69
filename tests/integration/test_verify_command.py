"""verify of what a package has in its bucket, and its repair from a directory, on the embedded registry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fusepkg.app.settings import Flags, decide
from tests.command import Fusepkg


@pytest.fixture
def objects() -> Path:
    """Where the objects of ``local/data`` lie."""
    return decide(Flags()).data_dir / "local" / "data"


def test_objects_are_repaired_from_a_directory(fusepkg: Fusepkg, objects: Path, tmp_path: Path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("lost", "damaged", "gone"):
        (folder / name).write_text(f"this is {name}\n")
    fusepkg("push", folder, "local/data:v1")
    (folder / "new").write_text("new\n")
    fusepkg("push", folder, "local/data:v2")
    for name in ("lost", "gone"):
        (objects / name).unlink()
    (objects / "damaged").write_text("that is wrong!!\n")
    (folder / "gone").write_text("changed here\n")

    found = fusepkg("verify", "local/data:v2", "--json", check=False)
    assert (found.returncode, [one["logical_key"] for one in json.loads(found.stdout)]) == (
        1,
        ["damaged", "gone", "lost"],
    )
    done = fusepkg("verify", "local/data:v2", "--repair", "--from", folder, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("gone is missing")
    assert "no file with its bytes" in done.stdout
    assert "2 objects put again" in done.stderr
    (folder / "gone").write_text("this is gone\n")
    fusepkg("verify", "local/data:v2", "--repair", "--from", folder)
    for version in ("v1", "v2"):
        assert "verified" in fusepkg("verify", f"local/data:{version}").stderr
        assert fusepkg("cat", f"local/data:{version}", "damaged").stdout == "this is damaged\n"


def test_what_repair_needs_is_said(fusepkg: Fusepkg, tmp_path: Path):
    for arguments in (
        (tmp_path, "local/data", "--repair"),
        ("local/data", "--from", tmp_path),
        ("local/data", "--repair", "--from", tmp_path / "nowhere"),
    ):
        assert fusepkg("verify", *arguments, check=False).returncode == 2
