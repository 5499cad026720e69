from __future__ import annotations

import os
from pathlib import Path

import pytest
from fusepkg_cache.digest import Algorithm, compute_digest

from fusepkg.check.directory import compare_directory
from fusepkg.model.entry import Entry, EntryKind, meta_for
from fusepkg.model.physical_key import PhysicalKey

SOMEWHERE = PhysicalKey("s3", "bucket", "key")


@pytest.mark.parametrize("algorithm", Algorithm)
def test_every_kind_of_hash_is_checked(tmp_path: Path, algorithm: Algorithm) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    contents = {"empty": b"", "same": b"as it was", "spoiled": b"as it was"}
    entries = [Entry(key, SOMEWHERE, len(data), compute_digest(algorithm, data)) for key, data in contents.items()]
    for key, data in contents.items():
        (folder / key).write_bytes(data)
    link = b"./same"
    (folder / "link").symlink_to("same")
    link_meta = meta_for(EntryKind.SYMLINK, symlink="./same")
    entries.insert(1, Entry("link", SOMEWHERE, len(link), compute_digest(algorithm, link), link_meta))
    (folder / "spoiled").write_bytes(b"As it was")
    differences = {difference.logical_key: difference.reason for difference in compare_directory(folder, entries)}
    assert set(differences) == {"spoiled", "link"}
    assert "other contents" in differences["spoiled"]

    (folder / "spoiled").write_bytes(contents["spoiled"])
    (folder / "link").unlink()
    (folder / "link").symlink_to("./same")
    assert compare_directory(folder, entries) == []


def test_whatever_a_directory_holds_is_a_difference_and_no_error(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "kept").write_bytes(b"kept")
    (folder / "a" / "more").write_bytes(b"more")
    (folder / "a!").write_bytes(b"left out")
    (folder / "a-b").write_bytes(b"kept")  # comes after what a/ holds
    (folder / "nothing").mkdir()
    (folder / "outside").symlink_to("/etc")
    os.mkfifo(folder / "pipe")
    (folder / os.fsdecode(b"not \xff utf-8")).write_bytes(b"")
    entries = [
        Entry(key, SOMEWHERE, 4, compute_digest(Algorithm.SHA2_256, b"kept"))
        for key in ("a/gone", "a/kept", "a-b", "outside/passwd", "pipe")
    ]
    differences = compare_directory(folder, entries, leave_out={"a!"})
    assert [(difference.logical_key, difference.kind.value) for difference in differences] == [
        ("a/gone", "missing"),
        ("a/more", "extra"),
        ("not \udcff utf-8", "extra"),
        ("nothing/.fusepkg-empty-directory", "extra"),
        ("outside", "extra"),
        ("outside/passwd", "missing"),
        ("pipe", "changed"),
    ]
    assert differences[-1].reason == "is something a package cannot hold, but a plain file in the manifest"
