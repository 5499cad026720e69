"""PackageBuilder on this machine: what it says, whole workspaces, and how much it holds."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fusepkg import Package, PackageBuilder
from fusepkg.errors import FusepkgError, InvalidReference, LocalFilesRemain, ManifestNotPushed, UsageError
from fusepkg.index.build import build_index
from fusepkg.index.opening import open_index
from fusepkg.model.reference import parse_reference
from fusepkg.opened.contexts import close_contexts
from fusepkg.publish.draft.draft import Draft
from fusepkg.publish.manifest import build_manifest, write_manifest
from fusepkg.publish.push_manifest import push_manifest
from fusepkg.store.opening import StoreSet
from fusepkg.store.s3 import S3Settings
from tests.command import Fusepkg


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory; what packages have opened is closed at the end."""
    directory = tmp_path / "workspace"
    directory.mkdir()
    monkeypatch.chdir(directory)
    yield directory
    close_contexts()


def fill(files: dict[str, str]) -> None:
    for name, content in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def git(*words: str) -> str:
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *who, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def recorded(made: PackageBuilder) -> dict[str, Any]:
    record: dict[str, Any] = made.draft.header()["user_meta"]["workspace"]
    return record


# --- what it says --------------------------------------------------------------------------------------------


def test_a_builder_tells_what_it_does_unless_it_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    fill({"t/1": "1", "README.md": "readme"})
    for quiet in (False, True):
        made = PackageBuilder("local/d", quiet=quiet).add("README.md").add("t")
        made.build_manifest()
        made.push_data_and_manifest(tag="v0")
        printed = capsys.readouterr().out
        lines = printed.splitlines()
        if quiet:
            assert printed == ""
            continue
        assert lines[:2] == ["Building manifest...", f"Tophash: {made.hash}"]
        assert [line.partition(" to ")[0] for line in lines[2:4]] == ["Pushing ./t/", "Pushing ./README.md"]
        assert lines[4] == ""
        assert lines[5:] == [f"Pushing manifest to {made.manifest}", f"Linking local/d:v0 to manifest {made.hash[:9]}"]
    again = PackageBuilder("local/d").add("t")
    again.push_data()
    assert capsys.readouterr().out.endswith("/local/d/t/... (data exists, skipping)\n")


@pytest.mark.parametrize(
    ("name", "tag", "registry_format", "words"),
    [
        ("d", "a/b", "fusepkg", "is not a tag"),
        ("d", None, "zip", "is no registry format"),
        ("d", None, "quilt3", "cannot be the name"),
        ("n/d:v1", None, "quilt3", "knows no tag 'v1'"),
    ],
)
def test_a_target_that_cannot_be_is_refused_before_data_are_pushed(
    name: str, tag: str | None, registry_format: str, words: str
) -> None:
    fill({"a": "a"})
    made = PackageBuilder(f"local/{name}", quiet=True).add("a")
    with pytest.raises(FusepkgError, match=words):
        made.push_data_and_manifest(tag=tag, registry_format=registry_format)
    assert made.draft.has_local_files()


def test_a_builder_of_many_single_files_prints_the_first_thousand() -> None:
    fill({"a": "a"})
    made = PackageBuilder("local/d", quiet=True)
    for number in range(1_010):
        made.set(f"d/{number:04}", "a")
    lines = repr(made).splitlines()
    assert lines[-4:] == ['    "d/0999" -> "./a"', "    ... and 10 more", "  ]", ")"]


def test_a_package_needs_its_data_and_manifest_pushed_unless_it_is_allowed() -> None:
    fill({"t/1": "one"})
    made = PackageBuilder("local/d", quiet=True).add("t")
    with pytest.raises(LocalFilesRemain) as local:
        made.as_package()
    assert str(local.value) == (
        "Manifest contains pointers to local files. Use push_data() to first push those files to s3 or use"
        " allow_local_files=True if this is intentional"
    )
    with pytest.raises(LocalFilesRemain):
        made.push_manifest("v1")
    with pytest.raises(ManifestNotPushed) as unpushed:
        made.as_package(allow_local_files=True)
    assert str(unpushed.value) == (
        "The manifest has not been pushed to a remote repository. Use push_manifest() to first push the manifest to"
        " s3 or use allow_local_manifest=True if this is intentional"
    )
    package = made.as_package(allow_local_files=True, allow_local_manifest=True)
    assert (package.manifest, package.get("t/1")) == ("local", b"one")
    made.push_data()
    with pytest.raises(ManifestNotPushed):
        made.as_package()
    assert made.push_manifest("v1") == made.as_package() == package


def test_names_and_tags_that_are_refused() -> None:
    fill({"a": "a"})
    for name in ("local/d@" + "0" * 64, "d", "local/../d", "local/d:../x"):
        with pytest.raises(UsageError):
            PackageBuilder(name)
    made = PackageBuilder("local/d", quiet=True).add("a")
    made.push_data()
    for tag in ("a/b", "../x", "", "x y", "."):
        with pytest.raises(InvalidReference):
            made.push_manifest(tag)
    assert made.manifest == "pre-manifest"


def test_from_a_package_and_back() -> None:
    fill({"t/1": "1", "t/2": "2"})
    made = PackageBuilder("local/d", quiet=True).add("t").set_meta("t/", {"k": 1}).set_meta("", {"package": 2})
    first = made.push_data_and_manifest(tag="v1")
    again = PackageBuilder.from_package(Package("local/d:v1"), quiet=True)
    assert (again.meta, again.name, len(again), "t/1" in again) == ({"package": 2}, "local/d:v1", 2, True)
    again.build_manifest()
    assert again.hash == first.hash
    assert [entry.logical_key for entry in again if entry.hash and not entry.meta] == [
        "t/1",
        "t/2",
    ]
    again.delete("t/2").set_meta("t/1", {"label": "oak"})
    second = again.push_manifest("v1")
    assert second.get_metadata("t/1") == {"label": "oak"}
    oaks = PackageBuilder.from_package(second, quiet=True).filter(lambda entry: entry.meta.get("label") == "elm")
    assert len(oaks) == 0
    assert len(Package("local/d:v1")) == 1


# --- a whole workspace ---------------------------------------------------------------------------------------


def test_ignore_files_have_gits_syntax(workspace: Path) -> None:
    kept = {"a.py", "out/keep.bin", "sub/x.log", "sub/deep/root.txt", "b/out", ".hidden", "sub/data", "we#ird", "!bang"}
    left = {"x.log", "out/drop.bin", "root.txt", "cache/y/z", "sub/q.tmp", "sub/.git/config", ".git/config", "data/1"}
    fill(dict.fromkeys(kept | left, "x"))
    fill({
        ".fusepkgignore": "# comment\n*.log\n/root.txt\nout/*\n!out/keep.bin\ncache/\n**/*.tmp\n/data\n",
        "sub/.fusepkgignore": "!x.log\n",
        ".quiltignore": "a.py\n",
    })  # fmt: skip
    fill({"fusepkg-builder.jsonl": "{}"})
    Path(".fusepkgignore").write_text(Path(".fusepkgignore").read_text() + "!a.py\n")
    made = PackageBuilder("local/w", quiet=True).add(".")
    assert set(made.keys()) == kept | {".fusepkgignore", "sub/.fusepkgignore", ".quiltignore"}
    git("init", "-q")
    for name in (".fusepkgignore", "sub/.fusepkgignore"):
        Path(name).rename(name.replace(".fusepkgignore", ".gitignore"))
    Path(".quiltignore").unlink()
    told = subprocess.run(
        ["git", "ls-files", "-z", "--others", "--exclude-standard"], check=True, capture_output=True, text=True
    )
    theirs = {name for name in told.stdout.split("\0") if name and ".gitignore" not in name}
    assert theirs - {"fusepkg-builder.jsonl"} == kept
    assert workspace.exists()


def test_a_pushed_workspace_says_how_to_make_it_again() -> None:
    fill({"in/1": "input"})
    PackageBuilder("local/input", quiet=True).add("in").push_data_and_manifest(tag="v1")
    given = Package("local/input:v1")
    fill({"train.py": "print()", "model.bin": "weights"})
    git("init", "-q")
    git("remote", "add", "origin", "https://ada:secret@example.org/repo.git")
    git("add", "train.py")
    git("commit", "-qm", "first")
    made = PackageBuilder("local/run:today", quiet=True).add(".", inputs=[given])
    made.meta = {"mine": 1}
    package = made.push_data_and_manifest(prefix="runs/today")
    record = Package("local/run:today").meta["workspace"]
    assert package.meta["mine"] == 1
    assert record["git"] == {
        "commit": git("rev-parse", "HEAD"),
        "dirty": True,
        "remote": "https://example.org/repo.git",
        "directory": "",
    }
    assert f"local/input@{given.hash}" in record["inputs"]
    assert record["command"] == sys.orig_argv
    git("add", ".")
    git("commit", "-qm", "second")
    assert recorded(PackageBuilder("local/run", quiet=True).add("."))["git"]["dirty"] is False


def test_a_workspace_made_from_an_older_version_is_recorded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    fill({"a": "a"})
    first = PackageBuilder("local/run", quiet=True).add(".").push_data_and_manifest()
    monkeypatch.setattr(sys, "orig_argv", ["second"])
    again = first.as_package_builder()
    again.meta = {**again.meta, "mine": 1}
    again.add(".")
    assert recorded(again)["command"] == ["second"]
    assert again.draft.header()["user_meta"]["mine"] == 1
    again.meta = {"workspace": "mine"}
    assert again.draft.header()["user_meta"] == {"workspace": "mine"}


def test_outside_git_there_is_no_commit_and_other_pushes_record_nothing() -> None:
    fill({"a": "a"})
    made = PackageBuilder("local/run", quiet=True).add(".")
    assert recorded(made)["git"] is None
    for source in ("a", str(Path.cwd()), "../workspace"):
        assert PackageBuilder("local/run", quiet=True).add(source).draft.header()["user_meta"] is None


@pytest.mark.fuse
def test_a_mount_in_the_workspace_is_an_input_and_not_data(fusepkg: Fusepkg) -> None:
    fill({"in/1": "input", "code.py": ""})
    given = PackageBuilder("local/input", quiet=True).add("in").push_data_and_manifest(tag="v1")
    Path("data").mkdir()
    fusepkg("mount", "local/input:v1", "data")
    try:
        made = PackageBuilder("local/run", quiet=True).add(".")
    finally:
        fusepkg("umount", "data")
    assert made.keys() == ["code.py", "in/1"]
    assert f"local/input@{given.hash}" in recorded(made)["inputs"]
    own = PackageBuilder("local/own", quiet=True).add("code.py").push_data_and_manifest()
    assert f"local/own@{own.hash}" not in recorded(PackageBuilder("local/run", quiet=True).add("."))["inputs"]


# --- how much it holds ---------------------------------------------------------------------------------------


def test_a_version_made_from_a_large_one_costs_its_names(tmp_path: Path) -> None:
    count = 20_000
    value = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
    header = '{"version": "v0", "user_meta": null, "message": null}\n'
    lines = (
        f'{{"logical_key": "train/{number:07}.jpg", "physical_keys": ["s3://bucket/data/train/{number:07}.jpg"], '
        f'"size": 0, "hash": {{"type": "sha2-256-chunked", "value": "{value}"}}, "meta": {{}}}}\n'
        for number in range(count)
    )
    top_hash = build_index(
        [header.encode(), *(line.encode() for line in lines)], tmp_path, expected_top_hash=None, allow_file_keys=False
    )
    index = open_index(tmp_path, top_hash)
    assert index is not None
    gc.collect()
    tracemalloc.start()
    draft = Draft(parse_reference("local/large"), StoreSet(S3Settings(), tmp_path / "data"))
    draft.add_package(index)
    held, _ = tracemalloc.get_traced_memory()
    assert build_manifest(draft) == top_hash
    write_manifest(draft, tmp_path / "manifest")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held / count < 350
    assert most / count < 500
    assert [(item.logical, item.source) for item in draft.items()] == [("train/", "s3://bucket/data/train/")]
    push_manifest(draft, "v1")
    assert json.loads((tmp_path / "manifest").read_text().splitlines()[1])["logical_key"] == "train/0000000.jpg"
    assert os.path.getsize(tmp_path / "manifest") > count * 200
