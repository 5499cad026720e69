from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from fusepkg.errors import FolderUnfit
from fusepkg.model.entry import EntryKind
from fusepkg.model.logical_key import tree_sort_key
from fusepkg.publish.folder import Symlinks, scan_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


def write(folder: Path, key: str, content: str = "x", mode: int = 0o644) -> Path:
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)
    return path


def scanned(folder: Path, symlinks: Symlinks = Symlinks.REFUSE) -> dict[str, tuple[EntryKind, int, str]]:
    return {file.logical_key: (file.kind, file.size, file.link) for file in scan_folder(folder, symlinks).files}


def test_files_executables_links_and_empty_directories(folder: Path) -> None:
    write(folder, "plain.txt", "hello")
    write(folder, "bin/run.sh", "#!/bin/sh\n", 0o744)
    write(folder, "group.sh", "", 0o655)
    (folder / "bin" / "link").symlink_to("../plain.txt")
    (folder / "empty" / "deep").mkdir(parents=True)
    write(folder, ".git/HEAD", "ref")
    assert scanned(folder) == {
        ".git/HEAD": (EntryKind.FILE, 3, ""),
        "bin/link": (EntryKind.SYMLINK, 12, "../plain.txt"),
        "bin/run.sh": (EntryKind.EXECUTABLE, 10, ""),
        "empty/deep/.fusepkg-empty-directory": (EntryKind.EMPTY_DIRECTORY, 0, ""),
        "group.sh": (EntryKind.FILE, 0, ""),
        "plain.txt": (EntryKind.FILE, 5, ""),
    }


def test_entries_come_in_tree_order(folder: Path) -> None:
    for key in (
        "a b",
        "a/b",
        "a!/x",
        "a-b",
        "a.b",
        "a0",
        "é",
        "z",
        "\U0001f600",
        "\uffee",
        "line\nbreak",
        "back\\slash",
    ):
        write(folder, key)
    (folder / "a" / "c").mkdir()
    keys = [file.logical_key for file in scan_folder(folder).files]
    assert keys == sorted(keys, key=tree_sort_key)
    assert len(keys) == 13


def test_a_very_deep_tree_is_walked(folder: Path) -> None:
    deep = str(folder)
    for _ in range(1_200):  # pathlib and makedirs recurse, the walk must not
        deep += "/d"
        os.mkdir(deep)
    with open(f"{deep}/file", "w") as file:
        file.write("x")
    assert list(scanned(folder)) == ["d/" * 1_200 + "file"]
    subprocess.run(["rm", "-r", folder], check=True)  # neither does what cleans up after tests


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("link", "file"),
        ("link", "directory"),
        ("link", "nowhere"),
        ("link", "link"),
        ("directory/link", "../file"),
        ("directory/link", ".././directory/../file"),
        ("directory/link", "."),
    ],
)
def test_links_that_stay_inside_are_kept_as_they_are(folder: Path, link: str, target: str) -> None:
    write(folder, "file")
    write(folder, "directory/file")
    (folder / link).symlink_to(target)
    assert scanned(folder)[link] == (EntryKind.SYMLINK, len(target), target)


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("link", "/etc/passwd"),
        ("link", "../other"),
        ("directory/link", "../../other"),
        ("link", "up/../file"),  # the text stays inside, the kernel does not
        ("link", "down/../../../file"),  # the kernel stays inside, the text does not
        ("link", "absolute/file"),
    ],
)
def test_links_that_leave_are_refused(folder: Path, link: str, target: str) -> None:
    write(folder, "file")
    write(folder, "directory/deep/deeper/file")
    (folder / "up").symlink_to(".")
    (folder / "down").symlink_to("directory/deep/deeper")
    (folder / "absolute").symlink_to("/nowhere")
    (folder / link).symlink_to(target)
    with pytest.raises(FolderUnfit) as caught:
        scan_folder(folder)
    assert f"{link} is a symbolic link out of the folder (to {target})" in caught.value.message
    assert "--symlinks follow-outside" in caught.value.hint


def test_followed_links_become_files_and_directories(folder: Path, tmp_path: Path) -> None:
    outside = write(tmp_path, "outside/data.bin", "12345", 0o755)
    (folder / "file").symlink_to(outside)
    (folder / "directory").symlink_to(outside.parent)
    assert scanned(folder, Symlinks.FOLLOW) == {
        "directory/data.bin": (EntryKind.EXECUTABLE, 5, ""),
        "file": (EntryKind.EXECUTABLE, 5, ""),
    }


def test_circles_of_followed_links_are_found(folder: Path) -> None:
    write(folder, "a/file")
    (folder / "a" / "again").symlink_to("..")
    (folder / "round").symlink_to("round")
    with pytest.raises(FolderUnfit) as caught:
        scan_folder(folder, Symlinks.FOLLOW)
    assert "a/again is a symbolic link to a directory it lies in" in caught.value.message
    assert "round is a symbolic link that leads nowhere" in caught.value.message


def test_one_directory_may_be_linked_twice(folder: Path, tmp_path: Path) -> None:
    write(tmp_path, "outside/file")
    (folder / "one").symlink_to(tmp_path / "outside")
    (folder / "two").symlink_to(tmp_path / "outside")
    assert list(scanned(folder, Symlinks.FOLLOW)) == ["one/file", "two/file"]


def test_all_obstacles_are_collected_and_none_is_dropped(folder: Path) -> None:
    write(folder, "fine")
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
    Path(os.fsdecode(os.fsencode(folder) + b"/bad-\xff")).write_text("x")
    (folder / "target").symlink_to(os.fsdecode(b"bad-\xff"))
    write(folder, "a/.fusepkg-empty-directory", "")
    with pytest.raises(FolderUnfit) as caught:
        scan_folder(folder)
    message = caught.value.message
    assert "fifo is a FIFO" in message
    assert "socket is a socket" in message
    assert "bad-\\xff has a name that is not UTF-8" in message
    assert "target is a symbolic link whose target is not UTF-8" in message
    assert "a/.fusepkg-empty-directory has the name that marks empty directories" in message
    assert "ename" in caught.value.hint


def test_ten_obstacles_are_named_and_the_rest_counted(folder: Path) -> None:
    for number in range(25):
        os.mkfifo(folder / f"fifo-{number:02}")
    with pytest.raises(FolderUnfit) as caught:
        scan_folder(folder)
    assert "fifo-09" in caught.value.message
    assert "fifo-10" not in caught.value.message
    assert "and 15 more" in caught.value.message


def test_what_cannot_be_read_is_named(folder: Path) -> None:
    write(folder, "secret", mode=0)
    write(folder, "closed/file")
    (folder / "closed").chmod(0)
    pid = os.fork() if os.geteuid() == 0 else -1
    if pid == 0:  # root reads everything: look as somebody else
        status = 2
        try:
            folder.chmod(0o755)
            os.chdir(folder)
            os.setuid(65534)
            status = 0 if _both_named(Path()) else 1
        finally:
            os._exit(status)
    try:
        assert os.waitpid(pid, 0)[1] == 0 if pid > 0 else _both_named(folder)
    finally:
        (folder / "closed").chmod(0o700)


def _both_named(folder: Path) -> bool:
    try:
        scan_folder(folder)
    except FolderUnfit as exc:
        return "secret cannot be read" in exc.message and "closed cannot be listed" in exc.message
    return False


def test_a_missing_folder_a_file_and_an_empty_folder_are_told_apart(folder: Path) -> None:
    with pytest.raises(FolderUnfit, match="does not exist"):
        scan_folder(folder / "missing")
    with pytest.raises(FolderUnfit, match="is not a directory"):
        scan_folder(write(folder, "file"))
    (folder / "file").unlink()
    with pytest.raises(FolderUnfit, match="is empty"):
        scan_folder(folder)


def test_the_folder_itself_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    write(folder, "a/file")
    (folder / "link").symlink_to("a/file")
    (tmp_path / "linked").symlink_to(folder)
    assert list(scanned(tmp_path / "linked")) == ["a/file", "link"]


# --- links out of the folder -----------------------------------------------------------------------------------


@pytest.fixture
def environment(folder: Path, tmp_path: Path) -> Path:
    """A folder like a virtual environment: links inside, links out to a file and to a directory, and a chain."""
    write(tmp_path, "usr/bin/python3")
    write(tmp_path, "usr/lib/mod.py")
    (tmp_path / "usr/lib/same.py").symlink_to("mod.py")
    write(folder, "lib/site.py")
    (folder / "lib64").symlink_to("lib")
    (folder / "bin").mkdir()
    (folder / "bin/python3").symlink_to(tmp_path / "usr/bin/python3")
    (folder / "bin/python").symlink_to("python3")
    (folder / "stdlib").symlink_to(tmp_path / "usr/lib")
    return folder


def kinds(folder: Path, symlinks: Symlinks) -> dict[str, str]:
    found = {}
    for file in scan_folder(folder, symlinks).files:
        kind = "out" if file.leads_out else "link" if file.kind is EntryKind.SYMLINK else "file"
        found[file.logical_key] = kind
    return found


def test_links_that_leave_are_refused_unless_told_otherwise(environment: Path) -> None:
    with pytest.raises(FolderUnfit, match="bin/python3 is a symbolic link out of the folder") as caught:
        scan_folder(environment)
    assert "bin/python is a symbolic link out of the folder (to python3)" in caught.value.message
    assert "--symlinks follow-outside" in caught.value.hint


def test_only_links_that_leave_are_followed(environment: Path) -> None:
    assert kinds(environment, Symlinks.FOLLOW_OUTSIDE) == {
        "bin/python": "file",  # leaves through python3
        "bin/python3": "file",
        "lib/site.py": "file",
        "lib64": "link",
        "stdlib/mod.py": "file",
        "stdlib/same.py": "file",  # where it lies is outside
    }


def test_all_links_are_kept_and_those_that_leave_are_marked(environment: Path) -> None:
    assert kinds(environment, Symlinks.KEEP) == {
        "bin/python": "out",
        "bin/python3": "out",
        "lib/site.py": "file",
        "lib64": "link",
        "stdlib": "out",
    }
