"""Programs that read a mounted package find the folder that was published; see docs/reference/semantics.md.

One mount for all: these tests only read.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import mmap
import os
import random
import sqlite3
import stat
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from fusepkg.model.times import END_S, FIRST_S
from tests.mount.conftest import ENGINES, ON_BOTH_PLACES, Originals, require_engine
from tests.mount.mounting import Mount, files_below, forget_pages, mounted
from tests.mount.places import Place, surroundings
from tests.trees import LARGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.fuse


@pytest.fixture(scope="module", params=ON_BOTH_PLACES)
def big_place(request: pytest.FixtureRequest, place_named: Callable[[str], Place]) -> Place:
    return place_named(request.param)


@pytest.fixture(scope="module", params=ENGINES)
def big(request: pytest.FixtureRequest, big_place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    engine = require_engine(request.param)
    home = tmp_path_factory.mktemp("reader")
    with (
        surroundings(home, big_place.settings),
        mounted(big_place.reference("big:v1"), home / "m", engine) as mount,
    ):
        yield mount


@pytest.fixture
def original(originals: Originals) -> Path:
    return originals.big


def output(*command: object, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, check=False, timeout=120,
        env={**os.environ, "LC_ALL": "C"},
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout.decode(errors="surrogateescape")


# --- the whole tree ---


def test_first_reads_by_many_programs_at_once(big: Mount, original: Path) -> None:
    """The mount holds the files that were published, byte for byte, and nothing else."""
    script = "find . -type f -print0 | xargs -0 -P 32 -n 40 sha256sum | LC_ALL=C sort"
    assert output("sh", "-c", script, cwd=big.root) == output("sh", "-c", script, cwd=original) != ""
    counters = big.counters
    assert counters["fetched_objects"] + counters["in_place_reads"] > 1000


def test_diff_finds_no_difference(big: Mount, original: Path) -> None:
    """The mount holds the files that were published, byte for byte, and nothing else."""
    assert len(files_below(original)) >= 1000
    assert output("diff", "-r", "--no-dereference", original, big.root) == ""


def test_every_name_and_every_attribute(big: Mount, original: Path) -> None:
    """Names are the bytes that were published; listings, lookups and types agree with each other."""
    seen = 0
    for directory, directories, files in os.walk(os.fsencode(original)):
        here = os.fsencode(big.root) + directory[len(os.fsencode(original)) :]
        with os.scandir(here) as listed:
            entries = {entry.name: entry for entry in listed}
        assert sorted(entries) == sorted(directories + files)
        for name, entry in entries.items():
            theirs, ours = os.lstat(os.path.join(directory, name)), os.lstat(entry.path)
            assert stat.S_IFMT(ours.st_mode) == stat.S_IFMT(theirs.st_mode), entry.path
            assert entry.inode() == ours.st_ino
            assert entry.is_dir(follow_symlinks=False) == stat.S_ISDIR(ours.st_mode)
            assert entry.is_symlink() == stat.S_ISLNK(ours.st_mode)
            if stat.S_ISLNK(ours.st_mode):
                assert os.readlink(entry.path) == os.readlink(os.path.join(directory, name))
            if not stat.S_ISDIR(ours.st_mode):
                assert ours.st_size == theirs.st_size
            seen += 1
    assert seen > 1000


def test_modes_owner_and_times(big: Mount, original: Path) -> None:
    """Files have mode 0644, executables and directories 0755; all belong to who mounted; times come from content."""
    root = big.root.stat()
    mode = 0o700 if big.record.engine == "erofs" else 0o755
    assert (stat.S_IMODE(root.st_mode), root.st_uid, root.st_gid) == (mode, os.geteuid(), os.getegid())
    times: dict[bytes, int] = {}
    inodes: dict[int, str] = {}
    for directory, directories, files in os.walk(big.root):
        for name in directories + files:
            path = os.path.join(directory, name)
            ours = os.lstat(path)
            theirs = os.lstat(original / os.path.relpath(path, big.root))
            if stat.S_ISREG(ours.st_mode):
                assert stat.S_IMODE(ours.st_mode) == (0o755 if theirs.st_mode & 0o100 else 0o644), path
                assert ours.st_nlink == 1
                with open(original / os.path.relpath(path, big.root), "rb") as file:
                    content = hashlib.file_digest(file, "sha256").digest()
                assert times.setdefault(content, ours.st_mtime_ns) == ours.st_mtime_ns, path
            elif stat.S_ISDIR(ours.st_mode):
                assert stat.S_IMODE(ours.st_mode) == 0o755, path
                assert ours.st_nlink >= 2
            assert (ours.st_uid, ours.st_gid) == (os.geteuid(), os.getegid()), path
            assert ours.st_mtime_ns == ours.st_ctime_ns, path
            assert FIRST_S <= ours.st_mtime < END_S, path
            assert ours.st_mtime_ns % (2 * 10**9) == 0, path
            assert inodes.setdefault(ours.st_ino, path) == path
            assert ours.st_dev == root.st_dev
    assert len(set(times.values())) == len(times)


def test_empty_directories_are_kept(big: Mount) -> None:
    """Empty directories are there, and empty."""
    for name in ("empty", "empty in empty/empty", " empty #+%"):
        assert os.listdir(big / "directories" / name) == []


def test_symbolic_links_lead_to_what_they_did(big: Mount) -> None:
    """Symbolic links hold the text that was published and can be followed."""
    assert (big / "links/to-link").read_bytes() == (big / "links/übers eck").read_bytes() == b"linked to\n"
    assert os.listdir(big / "links/to-directory") == ["file.txt", "up"]
    assert (big / "links/to-directory/up").read_bytes() == (big / "sizes/00000001.bin").read_bytes()
    assert os.readlink(big / "links/to-link") == "to-file"


def test_what_is_not_there(big: Mount) -> None:
    """Names that are not there give ENOENT, too long ones ENAMETOOLONG, paths through a file ENOTDIR."""
    for path, error in (
        ("no-such", FileNotFoundError), ("many/no-such/x", FileNotFoundError), ("labels.sqlite/x", NotADirectoryError),
        ("directories/empty/.fusepkg-empty-directory", FileNotFoundError),
    ):  # fmt: skip
        with pytest.raises(error):
            os.stat(big / path)
    with pytest.raises(OSError, match="File name too long"):
        os.stat(big / ("n" * 256))
    with pytest.raises(IsADirectoryError):
        (big / "many").read_bytes()
    with pytest.raises(NotADirectoryError):
        os.listdir(big / "labels.sqlite")


# --- programs ---


def test_tar_reads_the_tree(big: Mount, original: Path) -> None:
    """Everyday programs work: diff, tar, rsync, git grep, sha256sum, cp, find, du, sqlite3, python."""
    archiver = subprocess.Popen(["tar", "-C", big.root, "-cf", "-", "."], stdout=subprocess.PIPE)
    members = 0
    with archiver, tarfile.open(fileobj=archiver.stdout, mode="r|") as archive:
        for member in archive:
            members += 1
            if member.isreg():
                data = archive.extractfile(member)
                assert data is not None
                assert data.read() == (original / member.name).read_bytes(), member.name
    assert archiver.returncode == 0
    assert members == sum(len(directories + files) for _, directories, files in os.walk(original)) + 1


def test_rsync_has_nothing_to_do(big: Mount, original: Path) -> None:
    """Everyday programs work: diff, tar, rsync, git grep, sha256sum, cp, find, du, sqlite3, python."""
    assert output("rsync", "-rlnc", "--delete", "--out-format=%i %n", f"{big.root}/", f"{original}/") == ""
    assert output("rsync", "-rlnc", "--delete", "--out-format=%i %n", f"{original}/", f"{big.root}/") == ""


def test_git_grep_finds_the_same(big: Mount, original: Path) -> None:
    """Everyday programs work: diff, tar, rsync, git grep, sha256sum, cp, find, du, sqlite3, python."""
    command = ("git", "--git-dir=/nonexistent", "grep", "--no-index", "-I", "-n", "-e", "nested [1-3]")
    assert output(*command, cwd=big.root) == output(*command, cwd=original) != ""


def test_sha256sum_agrees(big: Mount, original: Path) -> None:
    """Everyday programs work: diff, tar, rsync, git grep, sha256sum, cp, find, du, sqlite3, python."""
    script = "find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum"
    assert output("sh", "-c", script, cwd=big.root) == output("sh", "-c", script, cwd=original) != ""


def test_sparse_copy_is_equal(big: Mount, original: Path, tmp_path: Path) -> None:
    """Everyday programs work: diff, tar, rsync, git grep, sha256sum, cp, find, du, sqlite3, python."""
    for name in ("sizes/zeros.bin", "sizes/large.bin", "sizes/00000000.bin"):
        output("cp", "--sparse=always", big / name, tmp_path / "copy")
        output("cmp", tmp_path / "copy", original / name)


def test_find_and_du_agree(big: Mount, original: Path) -> None:
    """Everyday programs work: diff, tar, rsync, git grep, sha256sum, cp, find, du, sqlite3, python."""
    listing = "find . -type f -printf '%s %p\\0' | LC_ALL=C sort -z"
    assert output("sh", "-c", listing, cwd=big.root) == output("sh", "-c", listing, cwd=original)
    sizes = ("du", "--apparent-size", "--bytes", "--summarize", "sizes")
    assert abs(int(output(*sizes, cwd=big.root).split()[0]) - int(output(*sizes, cwd=original).split()[0])) < 10_000
    used = int(output("du", "-s", "--block-size=1", "sizes", cwd=big.root).split()[0])
    assert used >= sum(path.stat().st_size for path in (original / "sizes").iterdir())


def test_sqlite_reads_and_cannot_write(big: Mount) -> None:
    """Everyday programs work: diff, tar, rsync, git grep, sha256sum, cp, find, du, sqlite3, python."""
    path = big / "labels.sqlite"
    assert output("sqlite3", "-readonly", path, "select count(*), sum(label) from labels") == "20000|390000\n"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
        assert database.execute("select label from labels where image = 'img_012345.jpg'").fetchone() == (25,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            database.execute("delete from labels")


def test_python_imports_from_the_mount(big: Mount) -> None:
    """Everyday programs work: diff, tar, rsync, git grep, sha256sum, cp, find, du, sqlite3, python."""
    program = (
        "import treepackage, importlib.resources as resources;"
        "print(treepackage.ANSWER, resources.files(treepackage).joinpath('data.json').read_text())"
    )
    assert output("env", f"PYTHONPATH={big / 'python'}", sys.executable, "-c", program) == '42 {"answer": 42}\n\n'


def test_programs_run_from_the_mount(big: Mount) -> None:
    """Executables run."""
    assert output(big / "bin/hello", "world") == "hello world\n"
    with pytest.raises(PermissionError):
        subprocess.run([big / "labels.sqlite"], check=False)


# --- ways of reading ---


def test_random_parts_by_many_threads(big: Mount, original: Path) -> None:
    """Any part of a file can be read at any time by any number of readers, in any way the kernel offers."""
    chooser = random.Random("parts")
    data = (original / "sizes/large.bin").read_bytes()
    assert len(data) == LARGE_BYTES
    parts = [(chooser.randrange(LARGE_BYTES), chooser.randrange(1, 300_000)) for _ in range(200)]
    forget_pages(big / "sizes/large.bin")
    descriptor = os.open(big / "sizes/large.bin", os.O_RDONLY)
    try:
        with ThreadPoolExecutor(8) as threads:
            for (at, length), got in zip(
                parts, threads.map(lambda part: os.pread(descriptor, part[1], part[0]), parts), strict=True
            ):
                assert got == data[at : at + length]
        assert os.pread(descriptor, 100, LARGE_BYTES) == b""
        assert os.pread(descriptor, 100, LARGE_BYTES - 7) == data[-7:]
    finally:
        os.close(descriptor)


def test_every_edge_of_size(big: Mount, original: Path) -> None:
    """The last byte of a file is its last byte: nothing is cut off, nothing is added, whatever its size."""
    for path in sorted((original / "sizes").iterdir()):
        data = path.read_bytes()
        with (big / "sizes" / path.name).open("rb") as file:
            file.seek(max(0, len(data) - 5000))
            assert file.read() == data[max(0, len(data) - 5000) :]


def test_mmap(big: Mount, original: Path) -> None:
    """Any part of a file can be read at any time by any number of readers, in any way the kernel offers."""
    for name in ("sizes/large.bin", "sizes/00004097.bin", "labels.sqlite"):
        forget_pages(big / name)
        with (
            (big / name).open("rb") as file,
            closing(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED)) as ours,
        ):
            assert hashlib.sha256(ours).digest() == hashlib.sha256((original / name).read_bytes()).digest()


def test_bytes_after_the_end_of_a_mapped_file_are_zero(big: Mount) -> None:
    """Any part of a file can be read at any time by any number of readers, in any way the kernel offers."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    with (big / "sizes/00000513.bin").open("rb") as file:
        place = libc.mmap(None, 4096, mmap.PROT_READ, mmap.MAP_PRIVATE, file.fileno(), 0)
        try:
            assert ctypes.string_at(place + 513, 4096 - 513) == bytes(4096 - 513)
        finally:
            libc.munmap(place, 4096)


def test_sendfile_and_splice(big: Mount, original: Path, tmp_path: Path) -> None:
    """Any part of a file can be read at any time by any number of readers, in any way the kernel offers."""
    name = "sizes/08388609.bin"
    forget_pages(big / name)
    with (big / name).open("rb") as source, (tmp_path / "copy").open("wb") as target:
        while os.sendfile(target.fileno(), source.fileno(), None, 1 << 20):
            pass
    assert (tmp_path / "copy").read_bytes() == (original / name).read_bytes()
    reading, writing = os.pipe()
    with (big / name).open("rb") as source, open(reading, "rb") as pipe, open(writing, "wb"):
        assert os.splice(source.fileno(), writing, 4096, offset_src=4096) == 4096
        assert pipe.read(4096) == (original / name).read_bytes()[4096:8192]


def test_copy_file_range_answers_as_between_any_two_file_systems(big: Mount, tmp_path: Path) -> None:
    """copy_file_range(2) out of the mount gives EXDEV, as between any two file systems; cp(1) then copies."""
    with (big / "labels.sqlite").open("rb") as source, (tmp_path / "copy").open("wb") as target:
        with pytest.raises(OSError) as caught:
            os.copy_file_range(source.fileno(), target.fileno(), 4096)
        assert caught.value.errno == errno.EXDEV
    output("cp", "--reflink=auto", big / "labels.sqlite", tmp_path / "copy")
    output("cmp", big / "labels.sqlite", tmp_path / "copy")


def test_locks_of_readers_are_granted(big: Mount) -> None:
    """Readers may lock files among themselves."""
    import fcntl

    with (big / "labels.sqlite").open("rb") as one, (big / "labels.sqlite").open("rb") as other:
        fcntl.flock(one, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(one, fcntl.LOCK_UN)
        fcntl.lockf(one, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_the_file_system_is_full_and_read_only(big: Mount, original: Path) -> None:
    """The file system says that it is read-only and that it is full; nothing on it is set-uid or a device."""
    numbers = os.statvfs(big.root)
    assert numbers.f_flag & os.ST_RDONLY
    assert numbers.f_flag & os.ST_NOSUID
    assert numbers.f_flag & os.ST_NODEV
    assert numbers.f_bavail == numbers.f_bfree == 0
    assert numbers.f_blocks * numbers.f_frsize >= sum(path.stat().st_size for path in (original / "sizes").iterdir())
    assert numbers.f_namemax == 255


def test_no_holes(big: Mount) -> None:
    """A sparse file was published as the zeros it reads as: it has no holes."""
    with (big / "sizes/zeros.bin").open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 0
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == size
        file.seek(0)
        assert file.read() == bytes(size)
