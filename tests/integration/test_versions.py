"""diff, tag, rollback, tags, log: the versions of a package, on both kinds of registry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command import Fusepkg


@pytest.fixture
def package(registry: str, fusepkg: Fusepkg, tmp_path: Path) -> str:
    """``v1`` and ``v2`` of one package."""
    folder = tmp_path / "folder"
    (folder / "d").mkdir(parents=True)
    (folder / "same").write_text("same")
    (folder / "changed").write_text("old")
    (folder / "d" / "gone").write_text("gone")
    (folder / "run").write_text("run")
    name = f"{registry}/ns/data"
    fusepkg("push", folder, f"{name}:v1", "-m", "first")
    (folder / "changed").write_text("newer")
    (folder / "d" / "gone").unlink()
    (folder / "new").write_bytes(bytes(2000))
    (folder / "run").chmod(0o755)
    fusepkg("push", folder, f"{name}:v2", "-m", "second", "--meta", '{"camera": 7}')
    return name


def hash_of(fusepkg: Fusepkg, ref: str) -> str:
    return fusepkg("hash", ref).stdout.strip()


def test_diff(package: str, fusepkg: Fusepkg):
    done = fusepkg("diff", f"{package}:v1", f"{package}:v2", check=False)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "modified  metadata of the package",
        "modified  changed (5 bytes, was 3 bytes)",
        "added     d/ (an empty directory)",
        "removed   d/gone (4 bytes)",
        "added     new (2.0 KiB)",
        "modified  run (now an executable file, was a plain file)",
    ]
    assert done.stderr.startswith("2 added, 1 removed, 2 modified\n")

    facts = json.loads(fusepkg("diff", f"{package}:v1", f"{package}:v2", "--json", check=False).stdout)
    assert facts["old"] == {"reference": f"{package}:v1", "top_hash": hash_of(fusepkg, f"{package}:v1")}
    assert facts["metadata"] == [{"kind": "modified", "logical_key": ""}]
    assert [(one["kind"], one["logical_key"]) for one in facts["changes"]][1:3] == [
        ("added", "d/.fusepkg-empty-directory"),
        ("removed", "d/gone"),
    ]
    assert facts["changes"][0]["old"]["size"] == 3
    assert facts["changes"][0]["new"]["physical_key"].startswith(("s3://", "file:///"))
    assert facts["changes"][2]["new"] is None

    same = fusepkg("diff", f"{package}:v2", f"{package}@{hash_of(fusepkg, f'{package}:v2')}")
    assert same.stdout == ""
    assert "no differences" in same.stderr
    assert fusepkg("diff", f"{package}:v1", f"{package}:v9", check=False).returncode == 3


def test_tag(package: str, fusepkg: Fusepkg):
    first, second = (hash_of(fusepkg, f"{package}:{tag}") for tag in ("v1", "v2"))
    done = fusepkg("tag", f"{package}@{first[:10]}", "stable", "-m", "good")
    assert done.stdout == f"Linking {package}:stable to manifest {first[:9]}\n"
    assert fusepkg("tag", f"{package}:v1", "stable").stdout == f"{package}:stable names manifest {first[:9]} already\n"
    done = fusepkg("tag", f"{package}:v2", "stable", "--json")
    assert json.loads(done.stdout)["previous"] == first
    assert hash_of(fusepkg, f"{package}:stable") == second
    history = json.loads(fusepkg("log", f"{package}:stable", "--json").stdout)
    assert [(move["hash"], move["message"]) for move in history] == [(second, None), (first, "good")]


def test_rollback(package: str, fusepkg: Fusepkg):
    first, second = (hash_of(fusepkg, f"{package}:{tag}") for tag in ("v1", "v2"))
    fusepkg("tag", f"{package}:v1", "latest")
    fusepkg("tag", f"{package}:v2", "latest")
    done = fusepkg("rollback", f"{package}:latest")
    assert done.stdout == f"Linking {package}:latest to manifest {first[:9]}\n"
    assert done.stderr == f"It named {second[:9]} before\n"
    assert hash_of(fusepkg, package) == first
    done = fusepkg("rollback", f"{package}:latest", second[:8], "-m", "Sorry", "--json")
    assert json.loads(done.stdout)["previous"] == first
    history = json.loads(fusepkg("log", package, "--json").stdout)
    assert [(move["hash"], move["message"]) for move in history] == [
        (second, "Sorry"),
        (first, "Rolled back"),
        (second, None),
        (first, None),
    ]
    assert "already" in fusepkg("rollback", f"{package}:latest", second).stdout
    for status, message, *arguments in (
        (3, "has named nothing before", f"{package}:v1"),
        (3, "has no version", f"{package}:v1", "0" * 64),
        (3, "has no tag", f"{package}:v9"),
        (2, "names a version, not a tag", f"{package}@{first}"),
        (2, "is not a hash", f"{package}:v1", "v2"),
    ):
        done = fusepkg("rollback", *arguments, check=False)
        assert (done.returncode, message in done.stderr) == (status, True), done.stderr


def test_what_cannot_be_tagged(package: str, fusepkg: Fusepkg):
    for ref, tag, status, message in (
        (f"{package}:v1", "a/b", 2, "'a/b' is not a tag"),
        (f"{package}:v1", "../latest", 2, "'../latest' is not a tag"),
        (f"{package}:v1", "v1@abc", 2, "'v1@abc' is not a tag"),
        (f"{package}:v9", "x", 3, "has no tag 'v9'"),
        (f"{package}@{'0' * 64}", "x", 3, f"has no version {'0' * 64}"),
        (f"{package}@00000000", "x", 3, "has no version whose top hash starts with 00000000"),
    ):
        done = fusepkg("tag", ref, tag, check=False)
        assert (done.returncode, message in done.stderr) == (status, True), done.stderr
    assert [one["tag"] for one in json.loads(fusepkg("tags", package, "--json").stdout)] == ["v1", "v2"]
