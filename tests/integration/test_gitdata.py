"""Data tracked in git: what a checkout, a merge or another machine makes of it, and what it never does."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.command import Fusepkg
from tests.rgw import Gateway


@pytest.fixture(autouse=True)
def git_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "ada")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "ada@example.com")


def git(directory: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=directory, capture_output=True, text=True, check=check)


def write(directory: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def data_of(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): path.read_text() for path in sorted(directory.rglob("*")) if path.is_file()
    }


def commit(repository: Path, message: str) -> None:
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", message)


@pytest.fixture
def registry(tmp_path: Path, fusepkg: Fusepkg) -> Path:
    """A repository with `raw/01`, pushed; without hooks, for they start interpreters."""
    made = tmp_path / "registry"
    made.mkdir()
    git(made, "init", "-q", "-b", "main")
    fusepkg("init", "--git", "--registry", f"file://{tmp_path}/storage", cwd=made)
    for hook in ("post-checkout", "post-merge", "pre-push"):
        (made / ".git/hooks" / hook).unlink()
    write(made, {"raw/01/a.jpg": "a", "raw/01/deep/b.jpg": "b"})
    fusepkg("track", "raw/01", cwd=made)
    commit(made, "one")
    fusepkg("push", cwd=made)
    return made


def branch_with_more(registry: Path, fusepkg: Fusepkg) -> None:
    git(registry, "checkout", "-q", "-b", "more")
    write(registry, {"raw/01/a.jpg": "other", "raw/02/z.jpg": "z"})
    fusepkg("track", "raw/01", "raw/02", cwd=registry)
    commit(registry, "more")


def test_git_keeps_the_pointer_and_ignores_the_data(registry: Path, fusepkg: Fusepkg) -> None:
    assert git(registry, "ls-files").stdout.split() == [".fusepkg.toml", "raw/.gitignore", "raw/01.fusepkg"]
    before = (registry / "raw/01.fusepkg").read_text()
    assert "as before" in fusepkg("track", "raw/01", cwd=registry).stdout
    assert (registry / "raw/01.fusepkg").read_text() == before
    assert git(registry, "status", "--short").stdout == ""


def test_a_checkout_brings_changes_and_drops_data(registry: Path, fusepkg: Fusepkg) -> None:
    branch_with_more(registry, fusepkg)
    git(registry, "checkout", "-q", "main")
    fusepkg("checkout", cwd=registry)
    assert data_of(registry / "raw/01") == {"a.jpg": "a", "deep/b.jpg": "b"}
    assert not (registry / "raw/02").exists()
    git(registry, "checkout", "-q", "more")
    fusepkg("checkout", cwd=registry)
    assert data_of(registry / "raw/01") == {"a.jpg": "other", "deep/b.jpg": "b"}
    assert data_of(registry / "raw/02") == {"z.jpg": "z"}
    compared = fusepkg("diff", "main", "more", cwd=registry, check=False)
    assert compared.returncode == 1
    assert compared.stdout.splitlines() == ["modified  raw/01/a.jpg (5 bytes)", "added     raw/02/ (1 bytes)"]
    assert fusepkg("diff", "more", "HEAD", cwd=registry).returncode == 0


def test_what_no_version_has_is_never_lost(registry: Path, fusepkg: Fusepkg) -> None:
    branch_with_more(registry, fusepkg)
    write(registry, {"raw/01/mine.txt": "mine", "raw/02/mine.txt": "mine"})
    git(registry, "checkout", "-q", "main")
    said = fusepkg("checkout", cwd=registry, check=False)
    assert said.returncode == 1
    assert "raw/01 has changes that no version has" in said.stderr
    assert "raw/02 is not tracked by this revision, has changes" in said.stderr
    assert (registry / "raw/01/mine.txt").read_text() == (registry / "raw/02/mine.txt").read_text() == "mine"
    assert "raw/01 (" in (status := fusepkg("status", cwd=registry).stdout)
    assert "changed" in status
    fusepkg("checkout", "--force", "raw/01", cwd=registry)
    assert data_of(registry / "raw/01") == {"a.jpg": "a", "deep/b.jpg": "b"}


def test_what_was_never_pushed_and_is_kept_nowhere_else_stays(
    registry: Path, fusepkg: Fusepkg, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    branch_with_more(registry, fusepkg)  # tracked, not pushed
    monkeypatch.setenv("FUSEPKG_DATA_DIR", str(tmp_path / "lost"))
    git(registry, "checkout", "-q", "main")
    said = fusepkg("checkout", cwd=registry, check=False)
    assert said.returncode == 1
    assert data_of(registry / "raw/01")["a.jpg"] == "other"
    assert data_of(registry / "raw/02") == {"z.jpg": "z"}


def test_a_clone_pulls_from_the_registry(
    registry: Path, fusepkg: Fusepkg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "clone", "-q", str(registry), "clone")
    monkeypatch.setenv("FUSEPKG_DATA_DIR", str(tmp_path / "another machine"))
    assert "raw/01 (" in (status := fusepkg("status", cwd=tmp_path / "clone").stdout)
    assert "not here" in status
    fusepkg("pull", cwd=tmp_path / "clone")
    assert data_of(tmp_path / "clone/raw/01") == data_of(registry / "raw/01")


@pytest.mark.fuse
def test_data_is_mounted_where_the_repository_says_so(registry: Path, fusepkg: Fusepkg, tmp_path: Path) -> None:
    branch_with_more(registry, fusepkg)
    git(tmp_path, "clone", "-q", str(registry), "clone")
    clone = tmp_path / "clone"
    try:
        fusepkg("checkout", "--mount", cwd=clone)
        assert data_of(clone / "raw/01") == {"a.jpg": "other", "deep/b.jpg": "b"}
        assert (clone / "raw/02").is_mount()
        git(clone, "checkout", "-q", "origin/main")
        fusepkg("checkout", "--mount", cwd=clone)
        assert data_of(clone / "raw/01") == {"a.jpg": "a", "deep/b.jpg": "b"}
        assert not (clone / "raw/02").exists()
    finally:
        for name in ("raw/01", "raw/02"):
            fusepkg("umount", clone / name, check=False)


def test_an_import_is_followed(registry: Path, fusepkg: Fusepkg, tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    (dataset / "inputs").mkdir(parents=True)
    git(dataset, "init", "-q", "-b", "main")
    fusepkg("init", "--git", cwd=dataset)
    fusepkg("import", "../registry", "raw/01", "-o", "inputs", cwd=dataset)
    assert data_of(dataset / "inputs/01") == {"a.jpg": "a", "deep/b.jpg": "b"}
    assert fusepkg("update", cwd=dataset).stdout == "inputs/01 is up to date\n"
    branch_with_more(registry, fusepkg)
    fusepkg("update", "inputs/01", "--rev", "main", cwd=dataset)
    assert data_of(dataset / "inputs/01")["a.jpg"] == "a"
    fusepkg("update", "--rev", "more", cwd=dataset)
    assert data_of(dataset / "inputs/01")["a.jpg"] == "other"
    refused = fusepkg("track", "inputs/01", cwd=dataset, check=False)
    assert (refused.returncode, "was imported from" in refused.stderr) == (2, True)
    assert "not pushed" not in fusepkg("status", cwd=dataset).stdout


MISTAKES = [
    (["track", "nothing"], "no directory"),
    (["track", ".."], "no directory below"),
    (["track", "kept"], "git keeps files of kept"),
    (["checkout", "other"], "not tracked"),
    (["checkout", "--mount", "--files"], "exclude each other"),
    (["update", "raw/01"], "only imported"),
    (["import", "https://ada:secret@example.com/x", "raw"], "password"),
    (["import", ".", "raw/03"], "It tracks raw/01"),
    (["import", ".", "raw/01", "--rev", "no"], "no revision 'no'"),
    (["init", "--git", "--registry", "http://x"], "cannot be a registry"),
    (["init", "--git", "--bring", "fast"], "files or mount"),
    (["push", "raw/01"], "as what?"),
]


def test_mistakes_are_refused(registry: Path, fusepkg: Fusepkg) -> None:
    write(registry, {"kept/a": "a"})
    git(registry, "add", "kept")
    for arguments, words in MISTAKES:
        said = fusepkg(*arguments, cwd=registry, check=False)
        assert said.returncode not in (0, 1, 70), arguments
        assert words in said.stderr, arguments
        assert "secret" not in said.stdout + said.stderr


def test_a_pointer_in_conflict_stops_before_anything_is_done(registry: Path, fusepkg: Fusepkg) -> None:
    pointer = registry / "raw/01.fusepkg"
    pointer.write_text(f"<<<<<<< HEAD\n{pointer.read_text()}=======\n>>>>>>> more\n")
    said = fusepkg("checkout", cwd=registry, check=False)
    assert (said.returncode, "raw/01.fusepkg, line 1: it is in a merge conflict" in said.stderr) == (9, True)
    assert data_of(registry / "raw/01") == {"a.jpg": "a", "deep/b.jpg": "b"}


def test_a_link_in_the_place_of_data_is_not_followed(registry: Path, fusepkg: Fusepkg, tmp_path: Path) -> None:
    (registry / "raw/01").rename(tmp_path / "away")
    (registry / "raw/01").symlink_to(tmp_path / "away")
    said = fusepkg("checkout", "--force", cwd=registry, check=False)
    assert (said.returncode, "symbolic link" in said.stderr) == (9, True)


@pytest.mark.s3
def test_the_registry_is_a_bucket(
    s3: Gateway, fusepkg: Fusepkg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, repository = s3.bucket(), tmp_path / "registry"
    repository.mkdir()
    git(repository, "init", "-q", "-b", "main")
    fusepkg("init", "--git", "--registry", bucket, cwd=repository)
    write(repository, {"raw/a.jpg": "a"})
    fusepkg("track", "raw", cwd=repository)
    fusepkg("push", cwd=repository)
    assert fusepkg("list", bucket).stdout == "registry/raw\n"
    commit(repository, "one")
    git(tmp_path, "clone", "-q", str(repository), "clone")
    monkeypatch.setenv("FUSEPKG_DATA_DIR", str(tmp_path / "another machine"))
    fusepkg("pull", cwd=tmp_path / "clone")
    assert data_of(tmp_path / "clone/raw") == {"a.jpg": "a"}
