"""A package on this machine: downloaded, verified, forced to match, mounted."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from fusepkg import Package
from fusepkg.daemon.unmount import end_mount
from fusepkg.errors import CacheFailure, FolderUnfit, MountpointUnfit, UsageError
from fusepkg.state.install_record import installed_at


def test_an_empty_text_is_not_the_working_directory(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("mine").write_text("mine")
    for call in (
        package.download,
        package.install,
        package.verify_directory_matches_manifest,
        package.force_directory_to_match_manifest,
    ):
        with pytest.raises(UsageError, match="names no directory"):
            call("")
    assert os.listdir() == ["mine"]


def test_the_incremental_download_of_the_use_cases(
    package: Package, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    package.download("./dataset")
    assert repr(package.verify_directory_matches_manifest("./dataset")) == "True"
    assert (Path("dataset/run.sh").stat().st_mode & 0o111) != 0
    Path("dataset/empty").write_text("not any more")
    later = Package("local/small:v2")
    with caplog.at_level(logging.WARNING):
        later.download("./dataset")
    assert "./dataset: 1 changed here and left as they are: empty." in caplog.text
    assert Path("dataset/README.md").read_text() == "# A later dataset\n"

    found = later.verify_directory_matches_manifest("./dataset/")
    assert not found
    assert repr(found).splitlines() == [
        "False",
        "./dataset/empty exists locally, but contents do not match manifest local/small:v2",
        "./dataset/same.bin exists locally, but does not exist in the manifest local/small:v2",
        'This can be fixed by calling pkg.force_directory_to_match_manifest("./dataset/")',
    ]
    changes = later.force_directory_to_match_manifest("./dataset")
    assert repr(changes).replace(str(published), "").splitlines() == [
        "Changes:",
        "  ./dataset/empty replaced with file:///data/local/small/empty",
        "  ./dataset/same.bin removed",
    ]
    assert later.verify_directory_matches_manifest("./dataset")
    assert repr(later.force_directory_to_match_manifest("./dataset")) == "No changes"
    installed = installed_at(published / "data", Path("dataset"))
    assert installed is not None
    assert (installed.reference, installed.top_hash) == ("local/small:v2", later.hash)


def test_a_directory_that_is_not_there(package: Package, tmp_path: Path) -> None:
    with pytest.raises(FolderUnfit):
        package.verify_directory_matches_manifest(tmp_path / "missing")


@pytest.mark.fuse
def test_a_mount_for_as_long_as_the_block_runs(package: Package, folder: Path, tmp_path: Path) -> None:
    package.get("README.md")  # so that there is a thread
    with package.mount(tmp_path / "m", engine="fuse") as mounted:
        assert mounted == tmp_path / "m"
        assert (mounted / "run.sh").read_bytes() == (folder / "run.sh").read_bytes()
        assert package.verify_directory_matches_manifest(mounted)
    assert not (tmp_path / "m").exists()

    (tmp_path / "n").mkdir()
    with pytest.raises(ZeroDivisionError), package.mount(tmp_path / "n", engine="fuse") as mounted:
        raise ZeroDivisionError if os.path.ismount(mounted) else AssertionError
    assert list((tmp_path / "n").iterdir()) == []

    with package.mount(engine="fuse") as mounted:
        assert mounted.name == "small"
    assert not mounted.parent.exists()


@pytest.mark.fuse
def test_a_lazy_install_is_a_mount_that_stays(package: Package, tmp_path: Path) -> None:
    package.install(tmp_path / "m", lazy=True)
    try:
        assert os.path.ismount(tmp_path / "m")
        assert (tmp_path / "m" / "README.md").read_text() == "# A dataset\n"
    finally:
        end_mount(tmp_path / "m", lazy=False)


@pytest.mark.fuse
def test_a_mount_that_cannot_be_made(package: Package, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "file").touch()
    with pytest.raises(MountpointUnfit), package.mount(tmp_path / "m", engine="fuse"):
        pass


def test_without_a_usable_cache_all_but_the_cache_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSEPKG_CACHE_DIR", "/proc/no-directory-can-be-made-here")
    package = Package("local/small:v1")
    assert package.readme() == "# A dataset\n"
    package.download(tmp_path / "dataset")
    assert package.verify_directory_matches_manifest(tmp_path / "dataset")
    with pytest.raises(CacheFailure):
        package.cache()
    with pytest.raises(CacheFailure):
        package.clear_cache()
