"""Tracked directories and files: brought, replaced and dropped without losing anything, also after an interruption."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fusepkg.app.context import Context
from fusepkg.app.settings import Flags, decide
from fusepkg.errors import RepositoryUnfit, UsageError
from fusepkg.gitdata import directories
from fusepkg.gitdata.imports import import_directory, update
from fusepkg.gitdata.versions import push_version, track
from fusepkg.gitdata.worktree import Worktree, prepare
from fusepkg.state.install_record import FOLDER


def git(directory: Path, *arguments: str) -> None:
    who = ["-c", "user.name=ada", "-c", "user.email=ada@example.com", "-c", "core.hooksPath=/nowhere"]
    subprocess.run(["git", *who, *arguments], cwd=directory, check=True, capture_output=True)


@pytest.fixture
def app(home: Path) -> Context:
    return Context(decide(Flags()))


def repository(root: Path, name: str) -> Worktree:
    (root / name).mkdir()
    git(root / name, "init", "-q", "--template=", "-b", "main")
    return prepare(root / name, f"file://{root}/storage", "")[0]


@pytest.fixture
def worktree(tmp_path: Path) -> Worktree:
    return repository(tmp_path, "registry")


def write(directory: Path, files: dict[str, str]) -> None:
    """Make a directory hold these files, and nothing else."""
    shutil.rmtree(directory, ignore_errors=True)
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


def files_in(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*") if path.is_file()}


def commit(app: Context, worktree: Worktree, tag: str, *names: str) -> None:
    for name in names:
        track(app, worktree, worktree.root / name)
    git(worktree.root, "add", "-A")
    git(worktree.root, "commit", "-qm", tag)
    git(worktree.root, "tag", tag)


def checkout(app: Context, worktree: Worktree, tag: str, *, force: bool = False) -> dict[str, str]:
    """Have git check out a revision, and data follow; return what became of each."""
    git(worktree.root, "checkout", "-q", tag)
    return {done.name: done.what for done in directories.checkout(app, worktree, force=force)}


# --- files ---------------------------------------------------------------------------------------------------


def test_a_file_is_tracked_followed_and_dropped(app: Context, worktree: Worktree, tmp_path: Path) -> None:
    model = worktree.root / "models/best model.bin"
    for text, tag in (("first", "one"), ("second!", "two")):
        write(model.parent, {model.name: text})
        model.chmod(0o755)
        commit(app, worktree, tag, "models/best model.bin")
    assert (worktree.root / "models/.gitignore").read_text() == "/best\\ model.bin\n"
    assert worktree.pointers()["models/best model.bin"].file == "best model.bin"
    assert checkout(app, worktree, "one") == {"models/best model.bin": "is another version now"}
    assert (model.read_text(), stat.S_IMODE(model.stat().st_mode)) == ("first", 0o755)
    assert checkout(app, worktree, "one") == {"models/best model.bin": "is up to date"}
    model.write_text("mine")
    assert "left as it is" in checkout(app, worktree, "two")["models/best model.bin"]
    assert model.read_text() == "mine"
    assert checkout(app, worktree, "two", force=True) == {"models/best model.bin": "is another version now"}
    assert model.read_text() == "second!"

    for tag in ("one", "two"):
        checkout(app, worktree, tag)
        push_version(app, worktree.pointers()["models/best model.bin"])
    other, copies = repository(tmp_path, "other"), tmp_path / "copies"
    bare = tmp_path / "bare.git"
    git(tmp_path, "clone", "-q", "--bare", str(worktree.root), str(bare))
    name, pointer = import_directory(other, str(bare), "models/best model.bin", other.root / "model", "one", copies)
    assert (name, pointer.file) == ("model", "best model.bin")
    assert [done.what for done in directories.checkout(app, other)] == ["is here (1 file)"]
    assert (other.root / "model").read_text() == "first"
    assert update(other, "model", pointer, "two", copies) is not None
    assert [done.what for done in directories.checkout(app, other)] == ["is another version now"]
    assert (other.root / "model").read_text() == "second!"
    assert [done.what for done in directories.checkout(app, other)] == ["is up to date"]

    (other.root / "model.fusepkg").unlink()
    assert "is removed" in next(directories.checkout(app, other)).what
    assert sorted(os.listdir(other.root)) == [".fusepkg.toml", ".git", ".gitignore"]
    assert not list((app.settings.data_dir / FOLDER).glob("*")), "nothing is remembered of where it was written"


def test_a_file_may_become_a_directory_and_back(app: Context, worktree: Worktree) -> None:
    data = worktree.root / "data"
    data.write_text("a file")
    commit(app, worktree, "file", "data")
    data.unlink()
    write(data, {"a": "in a directory"})
    commit(app, worktree, "directory", "data")
    assert checkout(app, worktree, "file") == {"data": "is another version now"}
    assert data.read_text() == "a file"
    assert checkout(app, worktree, "directory") == {"data": "is another version now"}
    assert files_in(data) == {"a": "in a directory"}
    shutil.rmtree(data)
    data.write_text("mine")
    assert "left as it is" in checkout(app, worktree, "directory")["data"]


def test_what_is_no_data_is_refused(app: Context, worktree: Worktree) -> None:
    (worktree.root / "link").symlink_to("nowhere")
    for name in ("link", "gone"):
        with pytest.raises(UsageError, match="is no directory and no file"):
            track(app, worktree, worktree.root / name)
    write(worktree.root / "own", {"kept.txt": "x"})
    git(worktree.root, "add", "own/kept.txt")
    for name in ("own", "own/kept.txt"):
        with pytest.raises(UsageError, match=r"git rm -r -q --cached own"):
            track(app, worktree, worktree.root / name)
    write(worktree.root / "data", {"a": "a", "b": "b"})
    track(app, worktree, worktree.root / "data")
    pointer = worktree.root / "data.fusepkg"
    pointer.write_text(pointer.read_text() + 'file = "a"\n')
    shutil.rmtree(worktree.root / "data")
    with pytest.raises(RepositoryUnfit, match="is not the one file a"):
        list(directories.checkout(app, worktree))


# --- interrupted ---------------------------------------------------------------------------------------------

BEFORE = {"same": "same", "changed": "before", "gone": "gone", "deep/gone": "deep"}
AFTER = {"same": "same", "changed": "after", "new": "new", "deep/new": "new"}


@pytest.fixture
def halfway(app: Context, worktree: Worktree, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Check out a revision of `data`, and be stopped when some files are replaced, some removed, some not yet."""
    for files, tag in ((BEFORE, "before"), (AFTER, "after")):
        write(worktree.root / "data", files)
        commit(app, worktree, tag, "data")
    checkout(app, worktree, "before")

    def stop(*_arguments: object, **_options: object) -> None:
        data = worktree.root / "data"
        (data / "gone").unlink(missing_ok=True)
        (data / "changed").write_text("after")
        (data / "new").write_text("new")
        (data / ".fusepkg-installing").mkdir(exist_ok=True)
        (data / ".fusepkg-installing/0").write_text("half of a file")
        raise KeyboardInterrupt

    def run(tag: str) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(directories, "force_to_match", stop)
            patched.setattr(directories, "install", stop)
            with pytest.raises(KeyboardInterrupt):
                checkout(app, worktree, tag)

    return run


@pytest.mark.parametrize("begin", ["full", "empty"])
def test_an_interrupted_checkout_is_repeated_without_force(
    app: Context, worktree: Worktree, halfway: Callable[[str], None], begin: str
) -> None:
    data = worktree.root / "data"
    if begin == "empty":
        shutil.rmtree(data)
    halfway("after")
    assert "another version now" in checkout(app, worktree, "after")["data"]
    assert files_in(data) == AFTER
    assert checkout(app, worktree, "after") == {"data": "is up to date"}
    (data / "same").write_text("mine")
    assert "left as it is" in checkout(app, worktree, "after")["data"]


def test_an_interrupted_checkout_may_end_with_another_revision(
    app: Context, worktree: Worktree, halfway: Callable[[str], None]
) -> None:
    halfway("after")
    halfway("after")  # stopped again
    assert "another version now" in checkout(app, worktree, "before")["data"]
    assert files_in(worktree.root / "data") == BEFORE


def test_what_a_user_put_into_a_half_made_directory_is_not_lost(
    app: Context, worktree: Worktree, halfway: Callable[[str], None]
) -> None:
    halfway("after")
    (worktree.root / "data/mine").write_text("mine")
    assert "left as it is" in checkout(app, worktree, "after")["data"]
    assert (worktree.root / "data/mine").read_text() == "mine"
    (worktree.root / "data/mine").unlink()
    (worktree.root / "data/same").write_text("mine")
    assert "left as it is" in checkout(app, worktree, "after")["data"]


def test_removing_is_repeated_too(app: Context, worktree: Worktree, monkeypatch: pytest.MonkeyPatch) -> None:
    write(worktree.root / "data", BEFORE)
    commit(app, worktree, "tracked", "data")
    git(worktree.root, "rm", "-q", "data.fusepkg")
    git(worktree.root, "commit", "-qm", "not any more")

    def stop(place: Path) -> None:
        (place / "same").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(directories.shutil, "rmtree", stop)
        with pytest.raises(KeyboardInterrupt):
            list(directories.checkout(app, worktree))
    assert [done.what for done in directories.checkout(app, worktree)] == [
        "is removed: this revision does not track it"
    ]
    assert not (worktree.root / "data").exists()
