"""A finished job is published with all it needs, and runs again in a new directory with the same result."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fusepkg import Package, PackageBuilder
from fusepkg.errors import InstallError, UsageError
from fusepkg.snapshots.reproduce import reproduce
from fusepkg.snapshots.take import take_snapshot
from tests.command import Fusepkg

TRAIN = """\
import pathlib, extra
out = pathlib.Path("model"); out.mkdir(exist_ok=True)
out.joinpath("weights.txt").write_text(pathlib.Path("data/a.txt").read_text() + extra.MORE)
"""


def git(directory: Path, *words: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", "-C", directory, *identity, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A work tree in which a job has run: code that was changed after the commit, a file that git does not know."""
    (tmp_path / "a.txt").write_text("input\n")
    PackageBuilder("local/input", quiet=True).set("a.txt", tmp_path / "a.txt").push_data_and_manifest(tag="v1")
    repository = tmp_path / "repository"
    job = repository / "jobs"
    job.mkdir(parents=True)
    (job / "train.py").write_text("raise SystemExit('an older one')\n")
    (job / "requirements.txt").write_text("numpy==2.0\n")
    (repository / ".gitignore").write_text("__pycache__/\n")
    git(repository, "init")
    git(repository, "add", ".")
    git(repository, "commit", "-m", "first")
    (job / "train.py").write_text(TRAIN)
    (job / "extra.py").write_text("MORE = 'and more\\n'\n")
    Package("local/input:v1").download(job / "data")
    subprocess.run(["python3", "train.py"], cwd=job, check=True)
    return job


def test_a_job_runs_again_from_its_snapshot(job: Path, tmp_path: Path, fusepkg: Fusepkg) -> None:
    words = ["--output", "model", "--seed", "7", "-m", "done", "--image", "img@sha256:1", "--", "python3", "train.py"]
    fusepkg("snapshot", "local/run:v1", *words, cwd=job)
    package = Package("local/run:v1")
    assert [entry.logical_key for entry in package] == [
        "code/changes.patch",
        "code/commit.bundle",
        "environment/packages.txt",
        "environment/requirements.txt",
        "files/jobs/extra.py",
        "outputs/model/weights.txt",
    ]
    said = package.meta["snapshot"]
    assert (said["command"], said["seed"], package.message) == (["python3", "train.py"], "7", "done")
    assert said["inputs"] == [{"package": str(Package("local/input:v1").reference).replace(":v1", ""), "path": "data"}]
    assert said["code"] == {"commit": git(job, "rev-parse", "HEAD"), "remote": None, "directory": "jobs"}
    assert said["environment"]["image"] == "img@sha256:1"

    again = tmp_path / "again"
    done = fusepkg("reproduce", "local/run:v1", again, cwd=tmp_path)
    assert done.stdout == "To run it again: again/reproduce/run.sh\n"
    assert not (again / "jobs" / "model").exists()
    subprocess.run([again / "reproduce" / "run.sh"], check=True)
    assert (again / "jobs" / "model" / "weights.txt").read_bytes() == package.get("outputs/model/weights.txt")
    assert (again / "reproduce" / "requirements.txt").read_text() == "numpy==2.0\n"


def test_a_commit_that_a_remote_has_is_named_only(job: Path, tmp_path: Path) -> None:
    remote = tmp_path / "remote.git"
    git(job, "clone", "--bare", job.parent, remote)
    git(job, "remote", "add", "origin", str(remote))
    git(job, "fetch", "origin")
    git(job, "config", "remote.origin.url", f"file://ada:secret@localhost{remote}")
    package = take_snapshot("local/run:v1", ["model"], directory=job)
    assert "code/commit.bundle" not in package
    assert package.meta["snapshot"]["code"]["remote"] == f"file://localhost{remote}"
    done = reproduce(package, tmp_path / "again")
    assert done.script is None
    assert (tmp_path / "again" / "jobs" / "train.py").read_text() == TRAIN


def test_a_job_outside_git_brings_its_files(tmp_path: Path) -> None:
    (job := tmp_path / "job").mkdir()
    (job / "run.sh").write_text("echo\n")
    (job / "result").write_text("result\n")
    package = take_snapshot("local/run:v1", ["result"], directory=job, command=["sh", "run.sh"])
    reproduce(package, tmp_path / "again")
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == ["reproduce", "run.sh"]


def test_what_cannot_be_is_refused(job: Path, tmp_path: Path) -> None:
    for outputs, said in (([], "no outputs"), (["none"], "is not there"), ([".."], "does not lie below")):
        with pytest.raises(UsageError, match=said):
            take_snapshot("local/run:v1", outputs, directory=job)
    with pytest.raises(UsageError, match="is no snapshot"):
        reproduce(Package("local/input:v1"), tmp_path / "again")
    with pytest.raises(InstallError, match="is not an empty directory"):
        reproduce(take_snapshot("local/run:v1", ["model"], directory=job), job)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"code": {"commit": "a" * 40, "remote": "ext::sh -c touch% /tmp/x", "directory": ""}}, "git cannot bring"),
        ({"code": {"commit": "--upload-pack=x", "remote": "x", "directory": ""}}, "names no commit"),
        ({"code": None, "inputs": [{"package": "local/input:v1", "path": "../out"}]}, "leads out of"),
    ],
)
def test_a_snapshot_of_a_stranger_reaches_nothing_else(change: dict[str, object], said: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("input\n")
    builder = PackageBuilder("local/input", quiet=True).set("a.txt", tmp_path / "a.txt")
    builder.meta = {"snapshot": {"format": 1, "command": [], "inputs": [], "environment": {}, **change}}
    package = builder.push_data_and_manifest(tag="v1")
    with pytest.raises((UsageError, InstallError), match=said):
        reproduce(package, tmp_path / "again")
