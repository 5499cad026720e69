"""DVC repositories that are not as DVC makes them are refused by name, and nothing of theirs leads out of them."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from fusepkg import Package
from fusepkg.errors import (
    DigestMismatch,
    EntryNotFound,
    FusepkgError,
    InvalidReference,
    MissingExtra,
    ObjectMissing,
    RepositoryUnfit,
)
from fusepkg.model.reference import parse_bucket, parse_reference

CONFIG = "[core]\n    remote = storage\n['remote \"storage\"']\n    url = ../../storage\n"


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def tracked(path: str, value: str, *more: str) -> str:
    return "\n".join([f"outs:\n- md5: {value}", "  hash: md5", f"  path: {path}", *(f"  {line}" for line in more), ""])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One that tracks `a.txt`, whose object and a list of files are in the remote beside it."""
    made = tmp_path / "repository"
    made.mkdir()
    git(made, "init", "-q")
    put(tmp_path, "a")
    commit(made, {".dvc/config": CONFIG, "a.txt.dvc": tracked("a.txt", md5("a"))})
    return made


def put(root: Path, text: str, suffix: str = "") -> str:
    """Put an object into the remote; return its hash."""
    name = md5(text)
    path = root / "storage/files/md5" / name[:2] / f"{name[2:]}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return f"{name}{suffix}"


def git(directory: Path, *arguments: str) -> None:
    who = ["-c", "user.name=ada", "-c", "user.email=ada@example.com"]
    subprocess.run(["git", *who, *arguments], cwd=directory, check=True)


def commit(directory: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(directory, "add", "-A")
    git(directory, "commit", "-qm", "change")


def refused(repository: Path, error: type[FusepkgError], *words: str) -> None:
    with pytest.raises(error) as caught:
        Package(f"dvc+{repository}")
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("path", ["../b.txt", "/etc/passwd", "x/../../b", "s3://bucket/key", "C:\\b"])
def test_paths_out_of_the_repository(repository: Path, path: str) -> None:
    commit(repository, {"b.dvc": tracked(path, md5("a"))})
    refused(repository, RepositoryUnfit, "b.dvc", repr(path))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("outs: [", ["b.dvc, line 1", "not YAML"]),
        ("<<<<<<< HEAD\nouts:\n=======\nouts: 1\n>>>>>>> b\n", ["b.dvc", "merge conflict"]),
        ("outs: 1\n", ["b.dvc", "no list"]),
        ("- a\n", ["b.dvc", "no mapping"]),
        (tracked("b", "123"), ["b.dvc", "'123'", "no MD5"]),
        ("outs:\n- md5: " + md5("a") + "\n", ["b.dvc", "'path'"]),
        ("outs:\n- path: b\n  etag: 1\n", ["b.dvc", "'b'", "without an MD5"]),
        (tracked("b", md5("a"), "cloud: {s: {version_id: x}}"), ["b.dvc", "size and version of 'b'"]),
        (tracked("b", md5("a"), "size: 1", "cloud: 1"), ["b.dvc", "no mapping"]),
        ("outs:\n- path: b\n  files:\n  - relpath: ../c\n    md5: x\n", ["b.dvc", "'../c' in 'b'"]),
        ("outs:\n- path: b\n  files:\n  - relpath: c\n    md5: x\n", ["b.dvc", "'x' of 'b/c' is no MD5"]),
        ("outs:\n- path: b\n  files: 1\n", ["b.dvc", "no list"]),
        (tracked("b", md5("a"), "wdir: x") + "wdir: ${x}\n", ["b.dvc", "wdir"]),
    ],
)
def test_files_that_dvc_did_not_write(repository: Path, text: str, words: list[str]) -> None:
    commit(repository, {"b.dvc": text})
    refused(repository, RepositoryUnfit, *words)


def test_an_output_without_a_hash_is_not_there_yet(repository: Path) -> None:
    commit(repository, {"b.dvc": "outs:\n- path: b\n"})
    assert [entry.logical_key for entry in Package(f"dvc+{repository}")] == ["a.txt"]


def test_a_list_of_files_that_is_missing(repository: Path) -> None:
    commit(repository, {"b.dvc": tracked("b", md5("no") + ".dir")})
    refused(repository, ObjectMissing, "b, tracked by b.dvc", "the remote storage", md5("no"), "dvc push")
    assert len(Package(f"dvc+{repository}//a.txt")) == 1, "the rest can be read"


@pytest.mark.parametrize("path", ["../b", "/b", "a/../../b", "", "x\0y"])
def test_a_list_of_files_that_leads_out(repository: Path, path: str, tmp_path: Path) -> None:
    listed = put(tmp_path, json.dumps([{"md5": md5("a"), "relpath": path}]), ".dir")
    commit(repository, {"b.dvc": tracked("b", listed)})
    refused(repository, RepositoryUnfit, "no list of files")


@pytest.mark.parametrize("text", ["{", "1", '[{"relpath": "a"}]', '[{"md5": "1", "relpath": "a"}]', "[" * 100_000])
def test_a_list_of_files_that_is_none(repository: Path, text: str, tmp_path: Path) -> None:
    commit(repository, {"b.dvc": tracked("b", put(tmp_path, text, ".dir"))})
    refused(repository, RepositoryUnfit, "no list of files")


def test_a_list_of_files_that_was_changed(repository: Path, tmp_path: Path) -> None:
    listed = put(tmp_path, "[]", ".dir")
    (tmp_path / "storage/files/md5" / listed[:2] / listed[2:]).write_text("[ ]")
    commit(repository, {"b.dvc": tracked("b", listed)})
    refused(repository, DigestMismatch, "b.dvc", listed)


def test_a_file_that_was_changed_is_not_read(repository: Path, tmp_path: Path) -> None:
    package = Package(f"dvc+{repository}")
    (tmp_path / "storage/files/md5" / md5("a")[:2] / md5("a")[2:]).write_text("b")
    with pytest.raises(DigestMismatch, match=md5("a")):
        package.get("a.txt")


def test_files_that_are_missing_are_counted(repository: Path, tmp_path: Path) -> None:
    files = [{"md5": md5(str(number)), "relpath": str(number)} for number in range(5)]
    commit(repository, {"b.dvc": tracked("b", put(tmp_path, json.dumps(files), ".dir"))})
    refused(repository, ObjectMissing, "b, tracked by b.dvc", md5("0"), "and 2 more")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("", ["nor in a remote that it names"]),
        ("[core]\nremote = other\n", ["no remote 'other'"]),
        (CONFIG.replace("../../storage", "gs://bucket/x"), ["'storage'", "gs://", "S3 and in folders"]),
        (CONFIG.replace("../../storage", "ssh://host/x"), ["'storage'", "ssh://"]),
        (CONFIG.replace("../../storage", "s3://b/x\n    version_aware = true"), ["a.txt.dvc", "nor in a remote"]),
        (CONFIG.replace("../../storage", "remote://storage/x"), ["no remote 'storage'"]),
        ("[core\n", [".dvc/config", "no configuration"]),
    ],
)
def test_remotes_that_cannot_be_read(repository: Path, config: str, words: list[str]) -> None:
    commit(repository, {".dvc/config": config})
    refused(repository, FusepkgError, *words)


PIPELINE = (
    "vars: [{where: deep}]\nstages:\n  s:\n    foreach: [x]\n    do: {wdir: '${where}', cmd: x, outs: ['${item}']}\n"
)


def test_the_directory_of_a_stage_may_come_from_a_template(repository: Path, tmp_path: Path) -> None:
    lock = f"schema: '2.0'\nstages:\n  s@x:\n    cmd: x\n    outs: [{{path: x, hash: md5, md5: {md5('a')}, size: 1}}]\n"
    commit(repository, {"sub/dvc.yaml": PIPELINE, "sub/dvc.lock": lock})
    assert [entry.logical_key for entry in Package(f"dvc+{repository}")] == ["a.txt", "sub/deep/x"]
    commit(repository, {"sub/dvc.yaml": PIPELINE.replace("where: deep", "there: deep")})
    refused(repository, RepositoryUnfit, "sub/dvc.yaml, line 5", "no value for `${where}`")


def test_what_dvcignore_leaves_out_is_not_tracked(repository: Path) -> None:
    commit(repository, {"old/b.dvc": tracked("b", md5("a")), "new/b.dvc": tracked("b", md5("a"))})
    commit(repository, {".dvcignore": "# before\n/old/\n", "new/.dvcignore": "c.dvc\n", "new/c.dvc": "outs: ["})
    assert [entry.logical_key for entry in Package(f"dvc+{repository}")] == ["a.txt", "new/b"]


def test_what_is_in_the_repositorys_own_cache_is_read_there(repository: Path) -> None:
    commit(repository, {".dvc/config": "[cache]\n    dir = ../../storage\n", ".gitignore": "x"})
    assert Package(f"dvc+{repository}").get("a.txt") == b"a"


def test_a_git_repository_without_dvc(repository: Path) -> None:
    (repository / ".dvc/config").unlink()
    commit(repository, {"b.txt": "b"})
    refused(repository, RepositoryUnfit, "no DVC repository", ".dvc/config")


def test_an_import_from_itself_ends(repository: Path) -> None:
    commit(repository, {"b.dvc": f"deps:\n- path: b\n  repo:\n    url: {repository}\n{tracked('b', md5('b'))}"})
    refused(repository, RepositoryUnfit, "imports from itself")


def test_an_import_starts_no_program(repository: Path, tmp_path: Path) -> None:
    url = f"ext::touch {tmp_path}/pwned"
    commit(repository, {"b.dvc": f"deps:\n- path: b\n  repo:\n    url: '{url}'\n{tracked('b', md5('b'))}"})
    with pytest.raises(FusepkgError):
        Package(f"dvc+{repository}")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("url", ["https://ada:secret@example.com/x", "https://secret@example.com/x.git@v1//raw"])
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        Package(f"dvc+{url}")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("rest", ["@", "@-x", "@a b", "@v1//../x", "@v1//a//b", "@v1^{/:x}:y"])
def test_references_that_name_no_revision(repository: Path, rest: str) -> None:
    with pytest.raises((InvalidReference, RepositoryUnfit, EntryNotFound)):
        Package(f"dvc+{repository}{rest}")


@pytest.mark.parametrize(
    ("text", "place", "revision"),
    [
        ("dvc+https://example.com/a/b.git@v1//raw/x", "https://example.com/a/b.git//raw/x", "v1"),
        ("dvc+git@example.com:a/b.git@feature/x", "git@example.com:a/b.git", "feature/x"),
        ("dvc+git@example.com:a/b.git", "git@example.com:a/b.git", "HEAD"),
        ("dvc+ssh://git@example.com/a/b@v2", "ssh://git@example.com/a/b", "v2"),
        ("dvc+/a/b@HEAD~1", "/a/b", "HEAD~1"),
    ],
)
def test_references(text: str, place: str, revision: str) -> None:
    reference = parse_reference(text)
    assert (reference.bucket.place, reference.tag) == (place, revision)
    assert parse_reference(str(reference)) == reference


def test_a_git_url_is_cloned_once_and_read_when_it_is_gone(repository: Path, tmp_path: Path) -> None:
    commit(repository, {".dvc/config": CONFIG.replace("../../storage", str(tmp_path / "storage"))})
    url = f"dvc+file://{repository}"
    assert Package(url).get("a.txt") == b"a"
    put(tmp_path, "b")
    commit(repository, {"a.txt.dvc": tracked("a.txt", md5("b"))})
    assert Package(url).get("a.txt") == b"b", "it is brought up to date"
    repository.rename(tmp_path / "away")
    assert Package(url).get("a.txt") == b"b", "it is read as it was last seen"


def test_no_yaml(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ruamel.yaml", None)
    refused(repository, MissingExtra, 'pip install "fusepkg[dvc]"')


@pytest.mark.parametrize("text", ["dvc+https://example.com/a", "dvc+git@example.com:a", "dvc+/a/b@c//d", "dvc+/a"])
def test_the_registry_of_a_repository_is_named_as_it_is_shown(text: str) -> None:
    bucket = parse_bucket(text)
    assert (bucket.scheme, str(bucket)) == ("dvc", text)
    with pytest.raises(InvalidReference):
        parse_bucket("dvc+https://ada:secret@example.com/a")
