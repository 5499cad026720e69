"""Whether a directory is what a package says, and making it so."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest
from fusepkg_cache.digest import Digest

from fusepkg.check import directory
from fusepkg.errors import InstallError
from fusepkg.index.opening import Index
from fusepkg.install.repair import describe, find_changes, find_differences, force_to_match, shown_key
from fusepkg.state.install_record import installed_at
from fusepkg.work.walk import WalkEntry
from tests.unit.install.conftest import Shop


def differences(shop: Shop, index: Index) -> list[str]:
    found = find_differences(index, shop.directory)
    return [f"{shown_key(difference)} {describe(difference, 'bucket/data:v1')}" for difference in found]


def force(shop: Shop, index: Index, **options: bool) -> list[str]:
    changes = force_to_match(index, "bucket/data:v1", shop.directory, shop.origin, shop.data_dir, **options)
    return [str(change).partition("~")[0] for change in changes]


def test_each_difference_in_its_words_and_what_mends_it(shop: Shop) -> None:
    index = shop.version(
        shop.file("changed", b"changed"),
        shop.file("missing", b"missing"),
        shop.file("run", b"run", executable=True),
        shop.file("same", b"same"),
        shop.empty("nothing"),
    )
    shop.install(index)
    assert differences(shop, index) == []
    (shop.directory / "changed").write_bytes(b"CHANGED")
    (shop.directory / "missing").unlink()
    (shop.directory / "run").chmod(0o644)
    (shop.directory / "nothing").rmdir()
    (shop.directory / "more/empty").mkdir(parents=True)
    (shop.directory / "more/file").write_bytes(b"")
    assert differences(shop, index) == [
        "changed exists locally, but contents do not match manifest bucket/data:v1",
        "missing does not exist locally, but exists in the manifest bucket/data:v1",
        "more/empty/ exists locally, but does not exist in the manifest bucket/data:v1",
        "more/file exists locally, but does not exist in the manifest bucket/data:v1",
        "nothing/ does not exist locally, but exists in the manifest bucket/data:v1",
        "run is a plain file, but an executable file in the manifest bucket/data:v1",
    ]
    shop.fetched()
    assert force(shop, index) == [
        "changed replaced with s3://bucket/data/changed",
        "missing downloaded from s3://bucket/data/missing",
        "more/empty/ removed",
        "more/file removed",
        "nothing/ made",
        "run replaced with s3://bucket/data/run",
    ]
    assert shop.fetched() == ["changed", "missing", "run"]
    assert differences(shop, index) == []
    assert force(shop, index) == []
    assert sorted(path.name for path in shop.directory.iterdir()) == ["changed", "missing", "nothing", "run", "same"]


def test_files_and_directories_that_swapped_places(shop: Shop) -> None:
    shop.install(shop.version(shop.file("a", b"a"), shop.file("b/1", b"1"), shop.file("b/2/3", b"3")))
    index = shop.version(shop.file("a/1", b"1"), shop.file("b", b"b"))
    force(shop, index)
    assert shop.found() == {"a/1": b"1", "b": b"b"}
    installed = installed_at(shop.data_dir, shop.directory)
    assert installed is not None
    assert (installed.top_hash, installed.is_complete) == (index.top_hash, True)
    assert shop.install(index).there == 2


def test_a_link_out_of_the_directory_is_removed_and_what_it_named_is_not(shop: Shop) -> None:
    outside = shop.tmp_path / "outside"
    outside.mkdir()
    (outside / "1.jpg").write_bytes(b"somebody else's")
    index = shop.version(shop.file("train/1.jpg", b"one"))
    shop.directory.mkdir()
    (shop.directory / "train").symlink_to(outside)
    changes = force(shop, index, any_directory=True)
    assert [change.partition(" ")[0] for change in changes] == ["train", "train/1.jpg"]
    assert shop.found() == {"train/1.jpg": b"one"}
    assert (outside / "1.jpg").read_bytes() == b"somebody else's"


@pytest.mark.usefixtures("lasting_disk")
def test_what_changed_since_is_found_without_reading_what_did_not(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    index = shop.version(
        *(shop.file(name, name.encode()) for name in ("a", "touched", "rewritten", "same")), shop.empty("nothing")
    )
    shop.install(index)
    read: list[str] = []
    hash_found = directory.hash_found

    def recording(found: WalkEntry, *arguments: Any) -> Digest:
        read.append(found.logical_key)
        return hash_found(found, *arguments)

    monkeypatch.setattr(directory, "hash_found", recording)
    assert find_changes(index, shop.directory, shop.data_dir) == []
    assert read == []

    os.utime(shop.directory / "touched", ns=(1, 1))
    status = (shop.directory / "rewritten").stat()
    (shop.directory / "rewritten").write_bytes(b"WRITTEN!!")
    os.utime(shop.directory / "rewritten", ns=(status.st_atime_ns, status.st_mtime_ns))
    (shop.directory / "a").unlink()
    (shop.directory / "b").touch()
    found = find_changes(index, shop.directory, shop.data_dir)
    assert [(one.logical_key, one.kind.value) for one in found] == [
        ("a", "missing"),
        ("b", "extra"),
        ("rewritten", "changed"),
    ]
    assert sorted(read) == ["rewritten", "touched"]

    (shop.directory / "same").write_bytes(b"")
    os.utime(shop.directory / "same", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "same" in [one.logical_key for one in find_changes(index, shop.directory, shop.data_dir)]


# --- where files may be removed --------------------------------------------------------------------------------


def test_a_directory_that_was_never_installed_into_loses_nothing_unless_told_twice(shop: Shop) -> None:
    index = shop.version(shop.file("x", b"x"))
    (shop.directory / "thesis").mkdir(parents=True)
    (shop.directory / "thesis/text").write_bytes(b"years")
    (shop.directory / "x").write_bytes(b"mine")
    with pytest.raises(InstallError, match="nothing was ever installed there, and 1 of its files would be removed"):
        force(shop, index)
    assert shop.found() == {"thesis/text": b"years", "x": b"mine"}
    assert force(shop, index, dry_run=True) == ["thesis/text removed", "x replaced with s3://bucket/data/x"]
    assert shop.found() == {"thesis/text": b"years", "x": b"mine"}
    force(shop, index, any_directory=True)
    assert shop.found() == {"x": b"x"}
    (shop.directory / "new").touch()
    assert force(shop, index) == ["new removed"]  # it held nothing but the package once


def test_an_install_beside_other_files_does_not_make_the_directory_ours(shop: Shop) -> None:
    index = shop.version(shop.file("x", b"x"))
    shop.directory.mkdir()
    (shop.directory / "thesis").write_bytes(b"years")
    shop.install(index)
    shop.install(index)
    with pytest.raises(InstallError, match="it held other files before the first install, and 1 of its files would be"):
        force(shop, index)
    assert shop.found() == {"thesis": b"years", "x": b"x"}


def test_missing_files_are_fetched_into_any_directory(shop: Shop) -> None:
    index = shop.version(shop.file("x", b"x"))
    assert force(shop, index, dry_run=True) == ["x downloaded from s3://bucket/data/x"]
    assert not shop.directory.exists()
    shop.directory.mkdir()
    force(shop, index)
    assert shop.found() == {"x": b"x"}


def test_a_lost_record_makes_force_ask(shop: Shop) -> None:
    index = shop.version(shop.file("x", b"x"))
    shop.install(index)
    shutil.rmtree(shop.data_dir)
    assert force(shop, index) == []
    shutil.rmtree(shop.data_dir)
    (shop.directory / "y").touch()
    with pytest.raises(InstallError, match="nothing was ever installed there"):
        force(shop, index)
