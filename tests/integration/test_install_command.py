"""install, and what status, hash and verify say of an installed directory, on both kinds of registry."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests import trees
from tests.command import Fusepkg


@pytest.fixture
def package(registry: str, fusepkg: Fusepkg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """``v1`` and ``v2`` of one package; the working directory is empty."""
    folder = trees.small(tmp_path / "folder")
    name = f"{registry}/ns/data"
    fusepkg("push", folder, f"{name}:v1")
    (folder / "README.md").write_text("# A later dataset\n")
    (folder / "same.bin").unlink()
    fusepkg("push", folder, f"{name}:v2")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return name


def test_an_installed_directory(package: str, fusepkg: Fusepkg):
    top_hash = fusepkg("hash", f"{package}:v1").stdout
    done = fusepkg("install", f"{package}:v1", "--location", "dataset")
    assert done.stdout == f"Installing Package {package}:v1 to dataset/...\n"
    assert "; 0 there already" in done.stderr
    unchanged = f"Package: {package}:v1 ({top_hash[:9]})\nNo files have been changed\n"
    assert fusepkg("status", "dataset").stdout == unchanged
    assert fusepkg("status", cwd=Path("dataset")).stdout == unchanged
    assert fusepkg("hash", "dataset").stdout == top_hash
    assert "verified" in fusepkg("verify", "dataset").stderr

    Path("dataset/README.md").write_text("mine\n")
    Path("dataset/run.sh").chmod(0o644)
    Path("dataset/notes").touch()
    Path("dataset/empty").unlink()
    shown = fusepkg("status", "dataset").stdout.splitlines()[1:]
    assert shown == [
        "4 files have been changed:",
        "  changed  README.md",
        "  missing  empty",
        "  extra    notes",
        "  changed  run.sh",
    ]
    facts = json.loads(fusepkg("status", "dataset", "--json").stdout)
    assert (facts["reference"], facts["is_complete"], len(facts["changes"])) == (f"{package}:v1", True, 4)
    done = fusepkg("hash", "dataset")
    assert (done.stdout, "files have been changed" in done.stderr) == (top_hash, True)
    done = fusepkg("verify", "dataset", check=False)
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 4)

    done = fusepkg("install", f"{package}:v2", "--location", "dataset")
    assert "changed here, and left as they are: dataset/README.md" in done.stderr
    assert Path("dataset/README.md").read_text() == "mine\n"
    done = fusepkg("install", f"{package}:v2", "--location", "dataset", "--force")
    assert done.stdout.splitlines()[1] == "Changes:"
    assert "  dataset/notes removed" in done.stdout
    assert Path("dataset/README.md").read_text() == "# A later dataset\n"
    assert fusepkg("status", "dataset").stdout.endswith("No files have been changed\n")
    assert fusepkg("install", f"{package}:v2", "--location", "dataset", "--force").stdout.endswith("No changes\n")


def test_where_it_goes_and_what_is_refused(package: str, fusepkg: Fusepkg):
    facts = json.loads(fusepkg("install", f"{package}:v1", "--json").stdout)
    assert (facts["directory"], facts["written"] > 10, facts["kept"]) == (str(Path.cwd() / "data"), True, [])
    Path("file").touch()
    for status, *arguments in (
        (13, f"{package}:v1", "--location", "file"),
        (3, f"{package}:v9", "--location", "elsewhere"),
        (2, "data", "--location", "elsewhere"),
    ):
        done = fusepkg("install", *arguments, check=False)
        assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr
    assert not Path("elsewhere").exists()
    done = fusepkg("install", f"{package}:v1", "elsewhere", check=False)
    assert (done.returncode, f"fusepkg install {package}:v1 --location elsewhere" in done.stderr) == (2, True)
    assert fusepkg("install", f"{package}:v1", "--location", "x", "--dry-run", check=False).returncode == 2
    Path("mine").mkdir()
    Path("mine/notes").touch()
    done = fusepkg("install", f"{package}:v1", "--location", "mine", "--force", check=False)
    assert (done.returncode, "--force-any-directory" in done.stderr) == (13, True)
    shown = fusepkg("install", f"{package}:v1", "--location", "mine", "--force", "--dry-run").stdout
    assert "Nothing was changed. These changes would be made:" in shown
    assert "  mine/notes removed" in shown
    assert os.listdir("mine") == ["notes"]
    done = fusepkg("status", "elsewhere", check=False)
    assert (done.returncode, "no package is mounted, installed or made in" in done.stderr) == (7, True)


def test_links_out_of_a_folder_are_published_as_told(fusepkg: Fusepkg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("python3").write_text("the real one")
    Path("venv/bin").mkdir(parents=True)
    Path("venv/bin/python").symlink_to(tmp_path / "python3")
    Path("venv/bin/same").symlink_to("python")
    done = fusepkg("push", "venv", "local/venv", check=False)
    assert (done.returncode, "--symlinks follow-outside" in done.stderr) == (10, True)
    assert fusepkg("push", "venv", "local/venv", "--symlinks", "all", check=False).returncode == 2

    fusepkg("push", "venv", "local/venv:followed", "--symlinks", "follow-outside")
    assert fusepkg("cat", "local/venv:followed", "bin/python").stdout == "the real one"

    fusepkg("init", "local/venv")
    fusepkg("add", "./", "venv/", "--symlinks", "keep")
    built = fusepkg("build-manifest").stdout
    kept = json.loads(fusepkg("push", "venv", "local/venv:kept", "--symlinks", "keep", "--json").stdout)
    assert kept["top_hash"] in built
    fusepkg("install", "local/venv:kept", "--location", "blunted")
    assert os.readlink("blunted/bin/python") == f"python{tmp_path}/python3"
    fusepkg("install", "local/venv:kept", "--location", "real", "--outside-links")
    assert Path("real/bin/same").read_text() == "the real one"
    for directory in ("blunted", "real"):
        fusepkg("verify", directory, "local/venv:kept")
