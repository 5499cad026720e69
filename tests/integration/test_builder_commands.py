"""The step-by-step publisher beyond the use cases' own session: refusals, odd places, what happens between commands."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest

from fusepkg.cli.builder_state import STATE_NAME
from tests import trees
from tests.command import Fusepkg, run_fusepkg
from tests.proxy import Proxy
from tests.rgw import Gateway, aws_environment


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with some data."""
    work = tmp_path / "work"
    for name in ("train/1.jpg", "train/2.jpg", "new/1.jpg", "README.md"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(f"content of {name}\n")
    monkeypatch.chdir(work)
    return work


def refused(status: int, message: str, *command: object) -> None:
    """The command ends so, says that on standard error, and changes nothing."""
    state = Path(STATE_NAME)
    before = state.read_bytes() if state.exists() else None
    done = run_fusepkg(*command, check=False)
    assert (done.returncode, message in done.stderr) == (status, True), f"{command}\n{done.stdout}\n{done.stderr}"
    assert (state.read_bytes() if state.exists() else None) == before
    assert "Traceback" not in done.stderr


def test_what_cannot_be_done(work: Path):
    for command in (["add", "train"], ["status"], ["push-manifest"], ["rm", "x"]):
        refused(10, f"there is no {STATE_NAME}", *command)
    refused(2, "names no package", "init", "dataset")
    refused(2, "is not a tag", "init", "local/dataset:a b")
    refused(3, "does not exist", "init", "local/dataset:v1")
    run_fusepkg("init", "local/dataset")
    refused(10, "holds a builder already", "init", "local/other")
    for status, message, *command in (
        (10, "does not exist", "add", "nothing"),
        (2, "has the part '..'", "add", "../up", "README.md"),
        (2, "is absolute", "add", "/up", "README.md"),
        (2, "has a query that means nothing here", "add", "s3://bucket/key?part=1"),
        (2, "unknown scheme 'http'", "add", "http://bucket/key"),
        (2, "is not JSON", "set", "a", "README.md", "--meta", "{"),
        (2, "must be a JSON object", "set", "a", "README.md", "--meta", "[]"),
        (2, "not NaN", "set", "a", "README.md", "--meta", '{"n": NaN}'),
        (3, "has no 'a'", "set-meta", "a", "{}"),
        (3, "has no 'a/'", "mv", "a", "b"),
        (3, "has no 'a'", "rm", "a"),
        (2, "has no entries", "build-manifest"),
        (2, "'a/b' is not a tag", "push-manifest", "-t", "a/b"),
        (2, "'../v0' is not a tag", "push-manifest", "--tag=../v0"),
        (2, "is not JSON", "set-meta", ".", "nonsense"),
    ):
        refused(status, message, *command)
    assert len(Path(STATE_NAME).read_text().splitlines()) == 1


def test_moving_removing_and_metadata(work: Path, fusepkg: Fusepkg):
    fusepkg("init", "local/dataset")
    fusepkg("add", "train")
    fusepkg("add", "new/")
    refused(10, 'moving "new/1.jpg" to "train/1.jpg", but "train/1.jpg" already exists', "mv", "new", "train")
    done = fusepkg("mv", "new", "train", "--overwrite")
    assert done.stdout == "Moving contents of new/ to train/\n"
    assert fusepkg("rm", "train/2.jpg").stdout == "Removing train/2.jpg from local/dataset\n"
    fusepkg("set", "docs/read me", "README.md", "--meta", '{"kind": "text", "n": 1.0}')
    fusepkg("set-meta", "train/1.jpg", '{"label": "cat"}')
    fusepkg("set-meta", "train/", '{"split": 1}')
    fusepkg("set-meta", ".", '{"source": "web"}')
    shown = fusepkg("status").stdout
    assert "Metadata set:\n  train/1.jpg\n  train/\n  .\n" in shown
    facts = json.loads(fusepkg("status", "--json").stdout)
    assert facts["items"] == [
        {"logical_key": "train/", "source": "./new/"},
        {"logical_key": "docs/read me", "source": "./README.md"},
    ]
    assert (facts["builder"], facts["top_hash"], facts["pushed"]) == ("local/dataset", None, False)
    fusepkg("build-manifest", "-m", "made by hand")
    fusepkg("push-data")
    assert "Linking local/dataset:v1" in fusepkg("push-manifest", "-t", "v1").stdout
    listed = {one["logical_key"]: one for one in json.loads(fusepkg("ls", "-r", "--json", "local/dataset:v1").stdout)}
    assert [key for key in listed if not key.endswith("/")] == ["docs/read me", "train/1.jpg"]
    assert listed["docs/read me"]["meta"] == {"user_meta": {"kind": "text", "n": 1.0}}
    assert listed["train/1.jpg"]["meta"] == {"user_meta": {"label": "cat"}}
    assert fusepkg("cat", "local/dataset:v1", "train/1.jpg").stdout == "content of new/1.jpg\n"
    assert json.loads(fusepkg("log", "local/dataset:v1", "--json").stdout)[0]["message"] == "made by hand"


def test_commands_work_from_below_and_their_paths_are_meant_there(work: Path, fusepkg: Fusepkg):
    fusepkg("init", "local/dataset")
    below = work / "train"
    assert "./train/1.jpg to local/dataset as train/1.jpg" in fusepkg("add", "1.jpg", cwd=below).stdout
    fusepkg("set", "other", "../README.md", cwd=below)
    assert fusepkg("status", cwd=below).stdout == fusepkg("status").stdout == fusepkg("status", work).stdout
    changes = [json.loads(line) for line in Path(STATE_NAME).read_text().splitlines()[1:]]
    assert [change["from"] for change in changes if change["do"] != "show"] == ["./train/1.jpg", "./README.md"]


def test_a_version_made_from_another(registry: str, work: Path, fusepkg: Fusepkg):
    name = f"{registry}/dataset"
    fusepkg("push", work / "train", f"{name}:master", "-m", "first", "--prefix", "data/dataset/labelled")
    fusepkg("push", work / "new", f"{registry}/new-data:today")
    first = fusepkg("hash", f"{name}:master").stdout.strip()
    assert fusepkg("init", f"{name}:master").stdout == (
        f"New PackageBuilder {name} created from {name}:master ({first[:9]})\n"
    )
    assert fusepkg("status").stdout == f"Package: {name}:master ({first[:9]})\nData matches manifest\n"
    done = fusepkg("add", "--package", "more/", f"{registry}/new-data:today")
    assert done.stdout.startswith(f"Adding package {registry}/new-data:today (")
    fusepkg("push-data", "--prefix", "data/dataset/labelled")
    fusepkg("push-manifest", "-t", "master", "-m", "second")
    assert fusepkg("cat", f"{name}:master", "more/1.jpg").stdout == "content of new/1.jpg\n"
    assert fusepkg("cat", f"{name}:master", "2.jpg").stdout == "content of train/2.jpg\n"
    history = json.loads(fusepkg("log", f"{name}:master", "--json").stdout)
    assert [(move["hash"] == first, move["message"]) for move in history] == [(False, "second"), (True, "first")]

    # Another publisher is first: nothing of theirs is lost, nothing of ours either.
    fusepkg("rm", "more")
    fusepkg("tag", f"{name}@{first}", "master")
    done = fusepkg("push-manifest", "-t", "master", check=False)
    assert done.returncode == 8
    assert first in done.stderr
    assert fusepkg("hash", f"{name}:master").stdout.strip() == first


def test_files_that_change_between_the_steps(work: Path, fusepkg: Fusepkg):
    fusepkg("init", "local/dataset")
    fusepkg("add", "train/")
    built = fusepkg("build-manifest").stdout.splitlines()[1].removeprefix("Tophash: ")
    Path("train/1.jpg").write_text("another\n")
    refused(10, "have changed since its manifest was built", "push-data")
    assert not Path(os.environ["FUSEPKG_DATA_DIR"], "local").exists(), "nothing was published"
    rebuilt = fusepkg("build-manifest").stdout.splitlines()[1].removeprefix("Tophash: ")
    assert rebuilt != built
    fusepkg("push-data")
    shutil.rmtree("train")  # from here on the bucket has it
    assert f"manifest {rebuilt[:9]}" in fusepkg("push-manifest", "-t", "v1").stdout
    fusepkg("verify", "local/dataset:v1")


def test_on_a_terminal_results_are_whole_lines_above_the_bar(work: Path, fusepkg: Fusepkg):
    fusepkg("init", "local/dataset")
    fusepkg("add", "train/")
    pushed = on_terminal("push-data", "--prefix", "a/prefix/of/some/length")
    assert re.search(r"^Pushing \./train/ to file:///\S+/a/prefix/of/some/length/train/\.\.\.$", pushed, re.MULTILINE)
    assert "Uploading" in pushed  # the last phase: earlier ones may pass between two redraws
    lines = on_terminal("push-manifest", "-t", "v1").splitlines()
    assert "Building manifest..." in lines
    top_hash = fusepkg("hash", "local/dataset:v1").stdout.strip()
    assert f"Tophash: {top_hash}" in lines
    assert any(line.startswith("Pushing manifest to ") and line.endswith(f"{top_hash}.jsonl") for line in lines)


def on_terminal(*command: str) -> str:
    """What a command shows on a terminal of 80 columns, a bar's redrawing as lines."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    env = {**os.environ, "TERM": "xterm"}
    started = subprocess.Popen([sys.executable, "-m", "fusepkg", *command], stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # EIO: nobody has it open any more
        while piece := os.read(ours, 65536):
            shown += piece
    os.close(ours)
    assert started.wait() == 0, shown
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r", "\n")


def test_what_push_data_did_may_be_lost(work: Path, fusepkg: Fusepkg):
    fusepkg("init", "local/dataset")
    fusepkg("add", "train/")
    fusepkg("push-data")
    shutil.rmtree(Path(os.environ["FUSEPKG_DATA_DIR"], "builder"))  # as on another machine
    refused(10, "Manifest contains pointers to local files", "push-manifest", "-t", "v1")
    assert "(data exists, skipping)" in fusepkg("push-data").stdout
    assert "Linking local/dataset:v1" in fusepkg("push-manifest", "-t", "v1").stdout
    assert "names manifest" in fusepkg("push-manifest", "-t", "v1").stdout
    assert "is pushed already" in fusepkg("push-manifest").stdout
    assert "Linking local/dataset:v2" in fusepkg("push-manifest", "-t", "v2").stdout
    assert list(Path(os.environ["FUSEPKG_DATA_DIR"], "builder").glob("*")) == []


def test_local_files_may_be_published_if_that_is_wanted(work: Path, fusepkg: Fusepkg):
    fusepkg("init", "local/dataset")
    fusepkg("add", "train/")
    fusepkg("push-manifest", "-t", "v1", "--force-allow-local-files")
    assert fusepkg("cat", "local/dataset:v1", "train/1.jpg").stdout == "content of train/1.jpg\n"
    (entry,) = json.loads(fusepkg("ls", "--json", "local/dataset:v1", "train/1.jpg").stdout)
    assert entry["physical_key"] == f"file://{work}/train/1.jpg"


@pytest.mark.s3
def test_local_files_in_a_bucket_leave_a_builder_that_goes_on(s3: Gateway, work: Path, fusepkg: Fusepkg):
    bucket = s3.bucket()
    fusepkg("init", f"{bucket}/dataset")
    fusepkg("add", "train/")
    done = fusepkg("push-manifest", "-t", "v1", "--force-allow-local-files")
    assert "fusepkg reads none that a bucket names" in done.stderr
    assert fusepkg("ls", f"{bucket}/dataset:v1", check=False).returncode == 9
    assert fusepkg("status").stdout.startswith(f"PackageBuilder: {bucket}/dataset (")
    fusepkg("push-data")
    fusepkg("push-manifest", "-t", "v1", "-m", "for everybody")
    assert fusepkg("cat", f"{bucket}/dataset:v1", "train/1.jpg").stdout == "content of train/1.jpg\n"


def test_one_command_at_a_time_and_a_damaged_file(work: Path, fusepkg: Fusepkg):
    fusepkg("init", "local/dataset")
    held = os.open(work, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    refused(10, "another command is changing the builder", "add", "train/")
    fusepkg("status")  # only looks
    os.close(held)
    fusepkg("add", "train/")
    with Path(STATE_NAME).open("a") as file:
        file.write("<<<<<<< HEAD\n")
    for command in (["status"], ["add", "new/"], ["push-data"]):
        refused(10, f"line 4 of {work / STATE_NAME} is damaged", *command)


def test_a_workspace_leaves_out_what_is_ignored_and_says_how_it_came_about(work: Path, fusepkg: Fusepkg):
    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", *who, *words], capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q")
    Path(".fusepkgignore").write_text("*.tmp\n/new/\n")
    Path("train/x.tmp").touch()
    fusepkg("init", "local/temp")
    git("add", ".")
    git("commit", "-qm", "first")
    fusepkg("add", ".")
    commit = git("rev-parse", "HEAD")
    git("commit", "-qam", "the builder's own file")
    assert "as ./..." in fusepkg("status").stdout or "./" in fusepkg("status").stdout
    fusepkg("build-manifest")
    fusepkg("push-data", "--prefix", "ada/temp")
    fusepkg("push-manifest", "-t", "v1")
    keys = fusepkg("ls", "-r", "local/temp:v1").stdout.splitlines()
    assert keys == [".fusepkgignore", "README.md", "train/", "train/1.jpg", "train/2.jpg"]
    manifest = next(Path(os.environ["FUSEPKG_DATA_DIR"], "local", ".quilt").rglob("*.jsonl"))
    header = json.loads(manifest.read_text().splitlines()[0])
    assert header["user_meta"]["workspace"]["git"]["commit"] == commit


def test_a_tag_that_others_have_moved_is_not_taken_back(work: Path, tmp_path: Path, fusepkg: Fusepkg):
    fusepkg("init", "local/dataset")
    fusepkg("add", "train/")
    fusepkg("push-data")
    fusepkg("push-manifest", "-t", "v1")
    fusepkg("push", work / "new", "local/dataset:v1")
    theirs = fusepkg("hash", "local/dataset:v1").stdout
    refused(8, theirs.strip(), "push-manifest", "-t", "v1")
    assert fusepkg("hash", "local/dataset:v1").stdout == theirs
    fusepkg("push-manifest", "-t", "v2")
    fusepkg("rollback", "local/dataset:v1")
    fusepkg("push-manifest", "-t", "v1")


@pytest.mark.s3
def test_a_bucket_that_may_not_be_written_to(s3: Gateway, work: Path, fusepkg: Fusepkg):
    bucket, stranger = s3.bucket(), s3.user()
    env = aws_environment(s3.endpoint, stranger)
    fusepkg("init", f"{bucket}/dataset")
    fusepkg("add", "train/")
    before = Path(STATE_NAME).read_bytes()
    assert fusepkg("push-data", env=env, check=False).returncode == 4
    assert Path(STATE_NAME).read_bytes() == before
    fusepkg("push-data")
    before = Path(STATE_NAME).read_bytes()
    assert fusepkg("push-manifest", "-t", "v1", env=env, check=False).returncode == 4
    assert Path(STATE_NAME).read_bytes() == before
    assert fusepkg("tags", f"{bucket}/dataset", check=False).returncode == 3, "nothing half published"
    fusepkg("push-manifest", "-t", "v1")


@pytest.mark.s3
@pytest.mark.parametrize("versioned", [False, True])
def test_an_object_is_read_once_for_all_steps(versioned: bool, proxy: Proxy, s3: Gateway, work: Path, fusepkg: Fusepkg):
    theirs, ours = s3.bucket(versioned=versioned), s3.bucket()
    s3.s3.put_object(Bucket=theirs, Key="data/large.bin", Body=trees.content("large", 9 << 20))
    fusepkg("init", f"{ours}/dataset")
    fusepkg("add", "val/", f"s3://{theirs}/data/")
    fusepkg("build-manifest")
    read = [request for request in proxy.requests if request.key == "data/large.bin" and request.method == "GET"]
    assert read, "this server tells no checksums"
    proxy.forget()
    fusepkg("push-data")
    fusepkg("push-manifest", "-t", "v1")
    assert not [one for one in proxy.requests if one.key == "data/large.bin" and one.method == "GET"]
    assert any(key.startswith(".quilt/chunks/") for key in _keys(s3, ours)), "so that a part can be read and verified"
    fusepkg("verify", f"{ours}/dataset:v1")

    s3.s3.put_object(Bucket=theirs, Key="data/large.bin", Body=trees.content("other", 9 << 20))
    fusepkg("add", "val/", f"s3://{theirs}/data/")
    before = fusepkg("hash", f"{ours}/dataset:v1").stdout.strip()
    assert before not in fusepkg("build-manifest").stdout, "another object is read anew"


def _keys(s3: Gateway, bucket: str) -> list[str]:
    return [found["Key"] for found in s3.s3.list_objects_v2(Bucket=bucket)["Contents"]]
