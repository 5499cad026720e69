from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from fusepkg_cache import Cache, CacheUnusable
from fusepkg_cache.layout import prepare

from tests.unit.cache.blobs import LARGE, SMALL, blob


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_directory_is_private(tmp_path: Path) -> None:
    layout = prepare(tmp_path / "a" / "b")
    assert mode(layout.directory) == mode(layout.root) == mode(layout.blobs) == 0o700
    assert layout.version_file.read_bytes() == b"fusepkg-cache 2\n"


def test_an_empty_directory_is_made_private(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    directory.mkdir(mode=0o755)
    prepare(directory)
    assert mode(directory) == 0o700


def test_a_directory_with_other_things_keeps_its_mode(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    directory.mkdir(mode=0o755)
    (directory / "holiday.jpg").touch()
    layout = prepare(directory)
    assert mode(directory) == 0o755
    assert mode(layout.root) == 0o700


def test_an_opened_up_root_is_made_private_again(tmp_path: Path) -> None:
    root = prepare(tmp_path / "cache").root
    root.chmod(0o755)
    prepare(tmp_path / "cache")
    assert mode(root) == 0o700


@pytest.mark.parametrize("name", ["", "v2", "v2/blobs", "v2/segments", "v2/staging"])
def test_what_others_may_have_changed_is_refused(tmp_path: Path, name: str) -> None:
    prepare(tmp_path / "cache")
    path = tmp_path / "cache" / name
    path.chmod(0o777)
    with pytest.raises(CacheUnusable, match="other users can write") as caught:
        prepare(tmp_path / "cache")
    assert f"chmod 700 {path}" in caught.value.hint


def test_a_directory_that_others_can_replace_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose").chmod(0o777)
    with pytest.raises(CacheUnusable, match="put another directory in its place") as caught:
        prepare(tmp_path / "loose" / "cache")
    assert f"chmod go-w {tmp_path / 'loose'}" in caught.value.hint


def test_preparing_again_changes_nothing(tmp_path: Path) -> None:
    layout = prepare(tmp_path / "cache")
    before = layout.version_file.stat()
    assert prepare(tmp_path / "cache") == layout
    assert layout.version_file.stat().st_ino == before.st_ino


@pytest.mark.parametrize("name", ["cache", "cache/v2"])
def test_a_file_in_the_way_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(CacheUnusable, match="not a directory"):
        prepare(tmp_path / "cache")
    assert (tmp_path / name).read_text() == "mine"


def test_a_file_as_parent_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CacheUnusable):
        prepare(tmp_path / "file" / "cache")


def test_another_users_directory_is_refused(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        directory = tmp_path / "cache"
        directory.mkdir()
        os.chown(directory, 4711, -1)
    else:
        directory = Path("/")  # root's
    with pytest.raises(CacheUnusable, match="belongs to user"):
        prepare(directory)
    assert not (directory / "v2").exists()


def test_a_newer_layout_is_refused_and_left_alone(tmp_path: Path) -> None:
    layout = prepare(tmp_path / "cache")
    layout.version_file.write_bytes(b"fusepkg-cache 3\n")
    with pytest.raises(CacheUnusable, match="layout version 3"):
        prepare(tmp_path / "cache")
    assert layout.version_file.read_bytes() == b"fusepkg-cache 3\n"


def test_a_newer_layout_beside_ours_is_left_alone(tmp_path: Path) -> None:
    newer = tmp_path / "cache" / "v3"
    newer.mkdir(parents=True)
    (newer / "VERSION").write_bytes(b"fusepkg-cache 3\n")
    prepare(tmp_path / "cache")
    assert (newer / "VERSION").read_bytes() == b"fusepkg-cache 3\n"


@pytest.mark.parametrize("content", [b"", b"fusepkg-cache \n", b"\0" * 16])
def test_a_damaged_version_file_is_written_anew(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    layout = prepare(tmp_path / "cache")
    layout.version_file.write_bytes(content)
    prepare(tmp_path / "cache")
    assert layout.version_file.read_bytes() == b"fusepkg-cache 2\n"
    assert "VERSION is damaged" in caplog.text


OTHER_KINDS = {
    "directory": lambda path: (path.mkdir(), (path / "x").touch()),
    "link": lambda path: path.symlink_to("/dev/null"),
    "pipe": os.mkfifo,
    "file": Path.touch,
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
@pytest.mark.parametrize(
    "name", ["VERSION", "lock", "claims", "index", "segments/00000001", "segments", "blobs", "staging", "pins"]
)
def test_what_has_one_of_our_names_and_is_another_kind_is_set_aside(tmp_path: Path, name: str, kind: str) -> None:
    with Cache(tmp_path / "cache") as cache:
        cache.put(*blob(SMALL))
    path = tmp_path / "cache" / "v2" / name
    if path.exists():
        path.rename(tmp_path / "before")
    OTHER_KINDS[kind](path)
    with Cache(tmp_path / "cache") as cache:
        for digest, data in (blob(SMALL), blob(SMALL, 1), blob(LARGE)):
            assert cache.get(digest) in (None, data)
            with cache.claim(digest):
                cache.put(digest, data)
            assert cache.get(digest) == data
        cache.pin("pin", [blob(LARGE)[0]])
        cache.clear()
        assert cache.verify().ok


@pytest.mark.parametrize("kind", ["directory", "link", "pipe"])
def test_what_has_the_name_of_a_large_blob_gives_way_to_it(tmp_path: Path, kind: str) -> None:
    digest, data = blob(LARGE)
    with Cache(tmp_path / "cache") as cache:
        for _ in range(2):
            cache.put(digest, data)
            path = next((tmp_path / "cache" / "v2" / "blobs").glob("*/*/*"))
            path.unlink()
            OTHER_KINDS[kind](path)
            cache.put(digest, data)
            assert cache.get(digest) in (data, None)
            cache.clear()
        cache.put(digest, data)
        assert cache.get(digest) == data
