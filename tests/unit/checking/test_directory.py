from __future__ import annotations

from pathlib import Path

import pytest
from fusepkg_cache.digest import Algorithm, compute_digest

from fusepkg.checking.directory import compare_directory
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
    entries.append(Entry("link", SOMEWHERE, len(link), compute_digest(algorithm, link), link_meta))
    (folder / "spoiled").write_bytes(b"As it was")
    differences = {difference.logical_key: difference.reason for difference in compare_directory(folder, entries)}
    assert set(differences) == {"spoiled", "link"}
    assert "other contents" in differences["spoiled"]

    (folder / "spoiled").write_bytes(contents["spoiled"])
    (folder / "link").unlink()
    (folder / "link").symlink_to("./same")
    assert compare_directory(folder, entries) == []
