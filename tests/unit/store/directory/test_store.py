"""What is a directory store's own: files as other programs see them, crashes, foreign files."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from fusepkg.errors import AccessDenied, BucketNotFound, ObjectExists, ObjectMissing, RemoteError, RemoteUnavailable
from fusepkg.model.physical_key import PhysicalKey
from fusepkg.store.directory import STALE_S, DirectoryStore, files


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "registry"


@pytest.fixture
def store(root: Path) -> DirectoryStore:
    return DirectoryStore(root)


def keys(store: DirectoryStore, prefix: str = "") -> list[str]:
    return [info.key for info in store.list(prefix)]


def unfinished(root: Path) -> list[Path]:
    return list((root / ".fusepkg-store" / "unfinished").iterdir())


def test_objects_are_plain_files(store: DirectoryStore, root: Path) -> None:
    store.create("data/a b+%20.txt", b"hello")
    assert (root / "data" / "a b+%20.txt").read_bytes() == b"hello"
    assert (root / "data" / "a b+%20.txt").stat().st_nlink == 1
    assert store.url("data/a b+%20.txt") == f"file://{root}/data/a%20b%2B%2520.txt"


def test_files_others_wrote_are_objects(store: DirectoryStore, root: Path) -> None:
    (root / "data").mkdir(parents=True)
    (root / "data" / "x").write_bytes(b"hello")
    assert store.get("data/x") == b"hello"
    assert store.head("data/x").metadata == {}
    assert keys(store) == ["data/x"]
    with pytest.raises(ObjectExists):
        store.create("data/x", b"")


def test_the_umask_decides_who_may_read(store: DirectoryStore, root: Path) -> None:
    mask = os.umask(0o027)
    try:
        store.create("a/b", b"")
    finally:
        os.umask(mask)
    assert (root / "a" / "b").stat().st_mode & 0o777 == 0o640


def test_no_root(store: DirectoryStore, root: Path) -> None:
    for call in (store.get, store.head, keys):
        with pytest.raises(BucketNotFound, match=str(root)):
            call(store, "") if call is keys else call("a")  # type: ignore[operator, call-arg]
    assert not root.exists()
    store.create("a", b"")
    assert keys(store) == ["a"]


def test_nothing_unfinished_is_left_or_shown(store: DirectoryStore, root: Path) -> None:
    store.create("a", b"1")
    store.overwrite("a", b"2")
    with pytest.raises(ObjectExists):
        store.create("a", b"3")
    assert unfinished(root) == []
    assert keys(store) == ["a"]
    assert keys(store, ".fusepkg-store") == []
    with pytest.raises(ObjectMissing):
        store.get(".fusepkg-store/unfinished/x")


class Killed(BaseException):
    pass


@pytest.mark.parametrize("step", ["fsync", "link", "rename"])
def test_a_crash_leaves_all_or_nothing(
    store: DirectoryStore, root: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store.create("old", b"old")

    def killed(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(os, step, killed)
    if step != "rename":
        with pytest.raises(Killed):
            store.create("new", b"new")
    if step != "link":
        with pytest.raises(Killed):
            store.overwrite("old", b"new")
    monkeypatch.undo()
    assert keys(store) == ["old"]
    assert store.get("old") == b"old"


def test_what_crashes_left_is_swept_once_it_is_stale(store: DirectoryStore, root: Path) -> None:
    store.create("a", b"")
    place = root / ".fusepkg-store" / "unfinished"
    (place / "stale").write_bytes(b"x")
    (place / "young").write_bytes(b"x")
    os.utime(place / "stale", (0, time.time() - STALE_S - 60))
    DirectoryStore(root).create("b", b"")
    assert [path.name for path in unfinished(root)] == ["young"]


def test_metadata_where_files_have_no_attributes(
    store: DirectoryStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bytes:
        raise OSError("not supported")

    monkeypatch.setattr(os, "setxattr", refuse)
    monkeypatch.setattr(os, "getxattr", refuse)
    store.create("a", b"", metadata={"name": "value"})
    assert store.head("a").metadata == {"name": "value"}
    inode = (root / "a").stat().st_ino
    (root / ".fusepkg-store" / "metadata" / f"{inode}").rename(root / "moved")
    store.create("b", b"")
    assert store.head("b").metadata == {}
    assert "moved" in keys(store)


def test_a_reused_inode_has_no_metadata_of_before(tmp_path: Path) -> None:
    own = os.fsencode(tmp_path / "own")
    with (tmp_path / "file").open("wb") as file:
        beside = Path(os.fsdecode(files._beside(own, file.fileno())))
        beside.parent.mkdir(parents=True)
        beside.write_text('{"of": "another file"}')
        assert files.metadata_of(own, file.fileno()) == {"of": "another file"}
        files.keep_metadata(own, file.fileno(), {})
        assert files.metadata_of(own, file.fileno()) == {}


def test_damaged_metadata_are_an_error(store: DirectoryStore, root: Path) -> None:
    store.create("a", b"", metadata={"name": "value"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "getxattr", lambda *_: b"[1]")
        with pytest.raises(RemoteError, match="metadata"):
            store.head("a")


@pytest.mark.parametrize("key", ["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../../b", "a/.", "a\0b", "\ud800"])
def test_keys_no_file_can_have(store: DirectoryStore, root: Path, key: str) -> None:
    store.create("x", b"")
    (root.parent / "a").write_bytes(b"outside")
    with pytest.raises(RemoteError, match="cannot be written"):
        store.create(key, b"x")
    with pytest.raises(RemoteError, match="cannot be written"):
        store.overwrite(key, b"x")
    for read in (store.get, store.head):
        with pytest.raises(ObjectMissing):
            read(key)
    assert keys(store) == ["x"]


def test_a_path_longer_than_the_kernel_takes(store: DirectoryStore) -> None:
    with pytest.raises(RemoteUnavailable, match="name too long"):
        store.create("d" * 200 + ("/" + "d" * 200) * 25, b"")


def test_pipes_and_loops_do_no_harm(store: DirectoryStore, root: Path) -> None:
    store.create("a", b"1")
    os.mkfifo(root / "pipe")
    (root / "loop").symlink_to(".")
    (root / "link").symlink_to("a")
    (root / "dangling").symlink_to("nowhere")
    (root / os.fsdecode(b"not-utf8-\xff")).write_bytes(b"")
    assert keys(store) == ["a", "link"]
    assert store.get("link") == b"1"
    for key in ("pipe", "dangling"):
        with pytest.raises(ObjectMissing):
            store.get(key)


def test_a_file_one_may_not_read(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create("a", b"1")

    def refuse(*_: object) -> int:  # root, who runs many test suites, may read everything
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(AccessDenied, match=r"registry/a: Permission denied"):
        store.get("a")


def test_errors_of_the_disk_name_the_object(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create("a", b"1")

    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(RemoteUnavailable, match=r"registry/a: Input/output error"):
        store.get("a")


def test_verbatim_reads_any_path_and_writes_none(tmp_path: Path) -> None:
    (tmp_path / "a~d").mkdir()
    (tmp_path / "a~d" / "b~=").write_bytes(b"hello")
    everything = DirectoryStore(Path("/"), verbatim=True)
    key = f"{tmp_path}/a~d/b~=".removeprefix("/")
    assert everything.get(key) == b"hello"
    assert everything.url(key) == f"file:///{key}".replace("=", "%3D")
    for bad in (f"{key}/../b~=", f"{tmp_path}/a~d".removeprefix("/"), f"{key}x"):
        with pytest.raises(ObjectMissing):
            everything.get(bad)
    for write in (lambda: everything.create(f"{key}-new", b""), lambda: everything.list("")):
        with pytest.raises(RemoteError, match="only read"):
            write()


@pytest.mark.parametrize("done", [0, 1000])
def test_files_the_kernel_does_not_copy(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    """Between some file systems it refuses, and may do so after a part."""
    copy = os.copy_file_range
    data = os.urandom(3000)
    (tmp_path / "source").write_bytes(data)

    def refuse(source: int, target: int, count: int) -> int:
        if os.fstat(target).st_size >= done:
            raise OSError(errno.EXDEV, "other file system")
        return copy(source, target, done)

    monkeypatch.setattr(os, "copy_file_range", refuse)
    store.create("created", tmp_path / "source")
    store.copy(PhysicalKey("file", "", str(tmp_path / "source")), "copied", size=3000)
    assert store.get("created") == store.get("copied") == data
