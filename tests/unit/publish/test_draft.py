"""A version being made, on this machine alone: names, metadata, what is shown, what is refused."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import quilt3

from fusepkg.errors import EntryNotFound, FileChanged, FolderUnfit, FusepkgError, KeyCollision, UsageError
from fusepkg.model.manifest import MAX_LINE_BYTES
from fusepkg.model.reference import parse_reference
from fusepkg.publish.draft.draft import Draft
from fusepkg.publish.manifest import build_manifest, write_manifest
from fusepkg.state.hints import Hints
from fusepkg.store.opening import StoreSet
from fusepkg.store.s3 import S3Settings

FILES = {"README.md": b"readme", "train/1.jpg": b"1", "train/2.jpg": b"2", "train/deep/3.jpg": b"3", "new/1.jpg": b"n"}


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with some files."""
    directory = tmp_path / "workspace"
    for name, content in FILES.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def draft(tmp_path: Path) -> Draft:
    return Draft(parse_reference("local/dataset"), StoreSet(S3Settings(), tmp_path / "data"))


def shown(draft: Draft) -> list[str]:
    return [f"{item.logical} -> {item.source}" for item in draft.items()]


def state(draft: Draft) -> object:
    """All that a refused call must leave as it was."""
    slots = {key: (id(item), number) for key, (item, number) in draft.tree.slots.items()}
    return slots, shown(draft), dict(draft.changed_meta), dict(draft.directory_meta), draft.header(), draft.top_hash


# --- adding --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "key", "keys", "line"),
    [
        ("README.md", None, ["README.md"], "README.md -> ./README.md"),
        ("./README.md", "docs/", ["docs/README.md"], "docs/README.md -> ./README.md"),
        ("README.md", "a/b.md", ["a/b.md"], "a/b.md -> ./README.md"),
        ("new", None, ["new/1.jpg"], "new/ -> ./new/"),
        ("new/", "old", ["old/1.jpg"], "old/ -> ./new/"),
        ("./train/deep/", None, ["train/deep/3.jpg"], "train/deep/ -> ./train/deep/"),
        ("../workspace/new", None, ["new/1.jpg"], "new/ -> ../workspace/new/"),
        ("new", "", ["1.jpg"], " -> ./new/"),
    ],
)
def test_what_is_added_keeps_its_name_or_gets_another(
    draft: Draft, source: str, key: str | None, keys: list[str], line: str
) -> None:
    draft.add(source, key)
    assert draft.keys_in_order() == keys
    assert shown(draft) == [line]


def test_an_absolute_path_and_a_file_url_keep_their_last_name(draft: Draft, workspace: Path) -> None:
    draft.add(str(workspace / "new"))
    draft.add((workspace / "README.md").as_uri())
    assert draft.keys_in_order() == ["README.md", "new/1.jpg"]


def test_a_chosen_file_stands_below_its_folder_and_goes_when_it_is_what_the_folder_says(draft: Draft) -> None:
    draft.add("README.md")
    draft.add("train")
    draft.set("train/1.jpg", "new/1.jpg")
    draft.add("new")
    assert shown(draft) == [
        "README.md -> ./README.md",
        "train/ -> ./train/",
        "train/1.jpg -> ./new/1.jpg",
        "new/ -> ./new/",
    ]
    draft.set("train/1.jpg", "train/1.jpg")
    assert shown(draft) == ["README.md -> ./README.md", "train/ -> ./train/", "new/ -> ./new/"]


def test_top_hash_and_manifest_are_quilt3s(draft: Draft, tmp_path: Path) -> None:
    meta = {"é\U0001f600": [1.0, 1e-7, -0.0, 5, None, {"b": "ü\n", "a": True}]}
    draft.add("README.md")
    draft.add("train")
    draft.set("train/1.jpg", "new/1.jpg", meta={})
    draft.set_meta("README.md", meta)
    draft.set_meta("train/", {"kind": "folder"})
    draft.set_meta("train/deep", meta)
    draft.user_meta = meta
    draft.message = "why"
    package = quilt3.Package()
    package.set("README.md", "README.md", meta=meta)
    package.set_dir("train", "train", meta={"kind": "folder"})
    package.set_dir("train/deep", "train/deep", meta=meta)
    package.set("train/1.jpg", "new/1.jpg", meta={})
    package.set_meta(meta)
    package._set_commit_message("why")
    package._calculate_missing_hashes()
    assert build_manifest(draft) == package.top_hash
    write_manifest(draft, tmp_path / "manifest")
    with (tmp_path / "manifest").open() as file:
        loaded = quilt3.Package.load(file)
    assert loaded.top_hash == package.top_hash
    assert (loaded["train"].meta, loaded["train"]["deep"].meta) == ({"kind": "folder"}, meta)
    assert draft.top_hash == package.top_hash


def test_a_file_that_changes_before_the_build_is_built_as_it_is_then(draft: Draft, tmp_path: Path) -> None:
    draft.add("train")
    before = build_manifest(draft)
    Path("train/1.jpg").write_bytes(b"changed")
    after = build_manifest(draft)
    assert before != after
    assert build_manifest(draft) == after
    remembered = Hints(tmp_path / "remembered")
    Path("train/2.jpg").unlink()
    with pytest.raises(FileChanged, match=r"2\.jpg"):
        build_manifest(draft, hints=remembered)
    remembered.close()


def test_links_programs_and_empty_directories_are_kept(draft: Draft, workspace: Path) -> None:
    os.symlink("1.jpg", workspace / "train/link")
    (workspace / "train/2.jpg").chmod(0o755)
    (workspace / "train/empty").mkdir()
    draft.add("train", "t")
    build_manifest(draft)
    meta = {key: dict(draft.entry(key).meta) for key in draft.keys_in_order() if draft.entry(key).meta}
    assert meta == {
        "t/2.jpg": {"fusepkg": {"executable": True}},
        "t/empty/.fusepkg-empty-directory": {"fusepkg": {"empty_directory": True}},
        "t/link": {"fusepkg": {"symlink": "1.jpg"}},
    }
    draft.set_meta("t/2.jpg", {"mine": 1})
    assert draft.entry("t/2.jpg").meta == {"fusepkg": {"executable": True}, "user_meta": {"mine": 1}}
    assert draft.entry("t/2.jpg").user_meta == {"mine": 1}


# --- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("nothing-here", FolderUnfit, "nothing-here does not exist"),
        ("README.md/", FolderUnfit, "README.md/"),
        ("", UsageError, "names nothing"),
        ("nul\0", UsageError, "names nothing"),
        ("http://host/x", UsageError, "unknown scheme 'http'"),
        ("file://host/x", UsageError, "absolute path"),
        ("file:///x?versionId=1", UsageError, "absolute path"),
        ("s3://", UsageError, "no bucket"),
        ("s3://?x", UsageError, "no bucket"),
        ("s3://bucket/key?version=1", UsageError, "query"),
        ("s3://bucket/key?versionId=1&x=2", UsageError, "query"),
        ("s3://bucket/key?versionId=", UsageError, "query"),
        ("s3://bucket/key#part", UsageError, "fragment"),
        ("s3://bucket/prefix/?versionId=1", UsageError, "version of a prefix"),
    ],
)
def test_sources_that_are_refused_change_nothing(
    draft: Draft, source: str, error: type[FusepkgError], words: str
) -> None:
    draft.add("train")
    build_manifest(draft)
    before = state(draft)
    with pytest.raises(error) as refused:
        draft.add(source)
    assert words in refused.value.message
    with pytest.raises(error):
        draft.set("other", source)
    assert state(draft) == before


@pytest.mark.parametrize(
    "key", ["../x", "a/../../x", "/abs", "a//b", "./a", "a/.", "a\0b", "\ud800", "x" * 256, "a/" * 2048 + "b", ""]
)
def test_names_that_escape_or_cannot_be_shown_are_refused(draft: Draft, key: str) -> None:
    draft.add("train")
    before = state(draft)
    with pytest.raises(UsageError, match="cannot be a name in a package"):
        draft.set(key, "README.md")
    if key:
        with pytest.raises(UsageError):
            draft.add("new", key)
        with pytest.raises(UsageError):
            draft.move("train", key)
    assert state(draft) == before


def test_a_folder_that_holds_the_registry_is_refused(draft: Draft, tmp_path: Path) -> None:
    draft.add("README.md")
    draft.stores.for_bucket(draft.reference.bucket).create("k", b"")
    before = state(draft)
    with pytest.raises(FolderUnfit, match=r"The registry .* lies in"):
        draft.add(str(tmp_path))
    assert state(draft) == before


def test_the_mark_of_empty_directories_is_no_name_for_a_file(draft: Draft) -> None:
    with pytest.raises(UsageError, match="marks empty directories"):
        draft.set("a/.fusepkg-empty-directory", "README.md")


@pytest.mark.parametrize(
    "meta",
    [
        [1],
        "text",
        {"a": math.nan},
        {"a": [math.inf]},
        {"a": b"bytes"},
        {"a": {1, 2}},
        {"a": "\udc80"},
        {"a": "x" * MAX_LINE_BYTES},
        {"\ud800": 1},
    ],
)
def test_metadata_that_no_manifest_can_hold_are_refused(draft: Draft, meta: object) -> None:
    draft.add("train")
    draft.user_meta = {"old": 1}
    before = state(draft)
    for refused in (
        lambda: draft.set_meta("train/1.jpg", meta),
        lambda: draft.set_meta("train/", meta),
        lambda: draft.set("train/1.jpg", "new/1.jpg", meta),
        lambda: setattr(draft, "user_meta", meta),
    ):
        with pytest.raises(UsageError, match="metadata of"):
            refused()
    assert state(draft) == before


def test_metadata_nested_without_end_are_refused(draft: Draft) -> None:
    meta: dict[str, object] = {}
    meta["self"] = meta
    with pytest.raises(UsageError, match="JSON"):
        draft.user_meta = meta


def test_metadata_are_copied_in(draft: Draft) -> None:
    draft.add("train")
    meta = {"list": [1]}
    draft.set_meta("train/1.jpg", meta)
    meta["list"].append(2)
    assert draft.entry("train/1.jpg").user_meta == {"list": [1]}


def test_no_name_becomes_a_file_and_a_directory(draft: Draft) -> None:
    draft.add("train")
    before = state(draft)
    for key in ("train", "train/1.jpg/x", "train/deep"):
        with pytest.raises(KeyCollision, match="a file and a directory"):
            draft.set(key, "README.md")
    assert state(draft) == before
    draft.delete("train/deep/3.jpg")
    draft.set("train/deep", "README.md")
    assert draft.keys_in_order() == ["train/1.jpg", "train/2.jpg", "train/deep"]


def test_a_folder_for_set_an_unknown_name_and_an_empty_version(draft: Draft) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        draft.set("x", "train")
    with pytest.raises(UsageError, match="no entries"):
        build_manifest(draft)
    for act in (lambda: draft.set_meta("x", {}), lambda: draft.delete("x"), lambda: draft.move("x", "y")):
        with pytest.raises(EntryNotFound, match="has no 'x"):
            act()


# --- moving, deleting, choosing ------------------------------------------------------------------------------


def test_a_move_that_meets_names_is_refused_in_the_documents_words(draft: Draft) -> None:
    draft.add("train", "labelled")
    draft.add("new", "new_data")
    before = state(draft)
    with pytest.raises(KeyCollision) as refused:
        draft.move("new_data/", "labelled/")
    assert str(refused.value) == (
        'Collision detected. moving "new_data/1.jpg" to "labelled/1.jpg", but "labelled/1.jpg" already exists. '
        'Use overwrite=True if you would like to replace "labelled/1.jpg" with "new_data/1.jpg".'
    )
    assert state(draft) == before
    draft.move("new_data/", "labelled/", overwrite=True)
    assert shown(draft) == ["labelled/ -> ./train/", "labelled/ -> ./new/"]
    assert draft.keys_in_order() == ["labelled/1.jpg", "labelled/2.jpg", "labelled/deep/3.jpg"]
    assert draft.entry("labelled/1.jpg").physical_key.key.endswith("/new/1.jpg")


def test_a_move_takes_metadata_along_also_into_itself(draft: Draft) -> None:
    draft.add("train")
    draft.set_meta("train/deep/3.jpg", {"a": 1})
    draft.set_meta("train/deep/", {"b": 2})
    draft.move("train", "train/inner")
    assert draft.keys_in_order() == ["train/inner/1.jpg", "train/inner/2.jpg", "train/inner/deep/3.jpg"]
    draft.move("train/inner/deep", "")
    assert draft.keys_in_order() == ["3.jpg", "train/inner/1.jpg", "train/inner/2.jpg"]
    assert draft.entry("3.jpg").user_meta == {"a": 1}
    assert shown(draft) == [" -> ./train/deep/", "train/inner/ -> ./train/"]
    draft.move("", "all/")
    assert draft.keys_in_order() == ["all/3.jpg", "all/train/inner/1.jpg", "all/train/inner/2.jpg"]


def test_a_move_makes_no_name_a_file_and_a_directory(draft: Draft) -> None:
    draft.add("train")
    draft.add("README.md", "x")
    before = state(draft)
    for goal in ("x", "x/y", "train/1.jpg"):
        with pytest.raises(KeyCollision, match="a file and a directory"):
            draft.move("train/deep", goal)
    assert state(draft) == before


def test_what_replaces_an_entry_does_not_inherit_its_metadata(draft: Draft) -> None:
    draft.add("train")
    draft.set_meta("train/1.jpg", {"old": 1})
    draft.set("train/1.jpg", "new/1.jpg")
    assert draft.entry("train/1.jpg").user_meta == {}
    draft.set_meta("train/1.jpg", {"old": 1})
    draft.add("new", "train")
    assert draft.entry("train/1.jpg").meta == {}


def test_a_link_does_not_move_to_where_it_would_lead_out(draft: Draft, workspace: Path) -> None:
    os.symlink("../1.jpg", workspace / "train/deep/link")
    draft.add("train")
    before = state(draft)
    with pytest.raises(UsageError, match="lead out of the package"):
        draft.move("train/deep", "")
    assert state(draft) == before
    draft.move("train/deep", "elsewhere")


def test_deleting_names_and_directories(draft: Draft) -> None:
    draft.add("train")
    draft.add("README.md")
    draft.delete("train/deep/")
    draft.delete("README.md")
    assert draft.keys_in_order() == ["train/1.jpg", "train/2.jpg"]
    assert shown(draft) == ["train/ -> ./train/"]


def test_files_added_one_by_one_and_taken_out_are_not_in_it(draft: Draft) -> None:
    for number in range(300):
        draft.set(f"a/{number}", "README.md")
    assert len(shown(draft)) == 300
    assert draft.has_local_files()
    draft.delete("a")
    assert (len(draft), shown(draft), draft.has_local_files()) == (0, [], False)


def test_metadata_of_a_directory_go_with_it(draft: Draft) -> None:
    draft.add("train")
    draft.set_meta("train/", {"outer": 1})
    draft.set_meta("train/deep/", {"old": 1})
    draft.delete("train/deep/")
    draft.add("train")
    assert draft.directory_meta == {"train/": {"outer": 1}}


def test_filter_and_sample(draft: Draft) -> None:
    draft.add("train")
    draft.add("README.md")
    draft.filter(lambda entry: entry.size == 1)
    assert draft.keys_in_order() == ["train/1.jpg", "train/2.jpg", "train/deep/3.jpg"]
    for wrong in (0, -1, 4, 1.5, 0.0, True, math.nan):
        with pytest.raises(UsageError, match="cannot be chosen"):
            draft.sample(wrong)
    draft.sample(2, seed=7)
    chosen = draft.keys_in_order()
    assert len(chosen) == 2
    other = Draft(draft.reference, draft.stores)
    other.add("train")
    other.sample(2, seed=7)
    assert other.keys_in_order() == chosen
    other.sample(0.1)
    assert len(other) == 1


def test_a_change_forgets_the_manifest(draft: Draft) -> None:
    draft.add("train")
    changes = [
        lambda: draft.set_meta("train/1.jpg", {}),
        lambda: draft.set_meta("train/", {"directory": 1}),
        lambda: setattr(draft, "message", "why"),
        lambda: setattr(draft, "user_meta", {}),
        lambda: draft.add("README.md"),
        lambda: draft.delete("train/1.jpg"),
        lambda: draft.move("train", "t"),
    ]
    for change in changes:
        build_manifest(draft)
        assert draft.top_hash
        change()
        assert draft.top_hash is None


# --- a folder by itself --------------------------------------------------------------------------------------


@pytest.mark.parametrize("directory", ["", "inner/"])
def test_a_folder_by_itself_is_the_same_tree_before_and_after_its_names_are_made(draft: Draft, directory: str) -> None:
    draft.add(".", directory)
    item = draft.all_items[0]
    before = list(draft.tree.in_order()), list(draft.tree.all()), draft.tree.in_order()[1], item.count, len(draft)
    assert [key for key, _ in before[0]] == sorted(draft.tree.slots)  # which makes them
    assert before[1] == list(draft.tree.slots.values())
    after = list(draft.tree.in_order()), list(draft.tree.all()), draft.tree.in_order()[1], item.count, len(draft)
    assert after == before


def test_some_files_of_a_folder(draft: Draft) -> None:
    draft.add(".", "")
    slots = draft.tree.in_order()
    some = slots.only(lambda slot: slot[1] != 1)
    assert list(some) == [slots[0], *list(slots)[2:]]
    assert slots.only(lambda _: True) is slots
