from __future__ import annotations

import asyncio
import errno
import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

from fusepkg import Package
from fusepkg.errors import EntryNotFound, FusepkgError, TagNotFound
from fusepkg.fsspec import versions
from fusepkg.fsspec.filesystem import PackageFileSystem
from tests.unit.fsspec.conftest import LABELS

ROOT = "fusepkg://local/small:v1"


def _files(folder: Path) -> dict[str, bytes]:
    return {
        f"local/small:v1/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_all_files_are_those_of_the_folder(fs: PackageFileSystem, folder: Path) -> None:
    wanted = _files(folder)
    assert fs.find(ROOT) == sorted(wanted)
    assert fs.cat(ROOT, recursive=True) == wanted
    assert fs.cat(list(wanted)) == wanted
    assert {path: fs.open(path).read() for path in wanted} == wanted


def test_names(fs: PackageFileSystem) -> None:
    assert fs.ls(f"{ROOT}/train", detail=False) == ["local/small:v1/train/class0", "local/small:v1/train/class1"]
    assert fs.ls(f"{ROOT}/tables/labels.csv", detail=False) == ["local/small:v1/tables/labels.csv"]
    assert fs.glob(f"{ROOT}/*.md") == ["local/small:v1/README.md"]
    assert len(fs.glob(f"{ROOT}/**/class0/*.bin")) == 4
    tops, directories, files = next(fs.walk(ROOT))
    assert (tops, "train" in directories, "README.md" in files) == ("local/small:v1", True, True)
    assert fs.isdir(ROOT)
    assert fs.isdir(f"{ROOT}/nothing-here")
    assert fs.ls(f"{ROOT}/nothing-here") == []
    assert fs.isfile(f"{ROOT}/a b/ü+%#.txt")
    assert fs.exists("fusepkg://local/name/space:v1/README.md")


def test_info(fs: PackageFileSystem) -> None:
    info = fs.info(f"{ROOT}//tables/./labels.csv")
    entry = Package("local/small:v1")["tables/labels.csv"]
    assert info == {
        "name": "local/small:v1/tables/labels.csv",
        "size": len(LABELS),
        "type": "file",
        "mtime": fs.modified(info["name"]).timestamp(),
        "hash": entry.hash,
    }
    assert fs.ukey(info["name"]) == entry.hash
    assert fs.checksum(f"{ROOT}/same.bin") == fs.checksum(f"{ROOT}/train/class1/1.bin")
    assert fs.info(ROOT)["type"] == "directory"


def test_links_are_what_they_point_to(fs: PackageFileSystem, folder: Path) -> None:
    assert fs.cat_file(f"{ROOT}/link") == (folder / "train/class1/1.bin").read_bytes()
    assert fs.info(f"{ROOT}/link")["type"] == "file"


@pytest.mark.parametrize(
    ("target", "kind"),
    [("nowhere", "other"), ("loop", "other"), ("train/../train", "directory"), ("../outside", "other")],
)
def test_links_of_all_kinds(
    fs: PackageFileSystem, tmp_path: Path, fusepkg, target: str, kind: str, monkeypatch
) -> None:
    monkeypatch.setenv("FUSEPKG_DATA_DIR", str(tmp_path / "data"))
    folder = tmp_path / "linked"
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "1").write_text("1")
    (folder / "loop").symlink_to(target)
    fusepkg("push", folder, "local/linked:v1", "--symlinks", "keep")
    types = {info["name"]: info["type"] for info in fs.ls("fusepkg://local/linked:v1")}
    assert types["local/linked:v1/loop"] == kind
    assert fs.exists("fusepkg://local/linked:v1/loop/1") is (kind == "directory")


def test_a_file_seeks_and_reads_text(fs: PackageFileSystem, folder: Path) -> None:
    large = (folder / "large.bin").read_bytes()
    with fs.open(f"{ROOT}/large.bin", block_size=4096) as file:
        assert (file.size, file.seek(-5000, 2)) == (len(large), len(large) - 5000)
        assert file.read(3000) == large[-5000:-2000]
        assert file.read() == large[-2000:]
        file.seek(10)
        assert [file.read(1), file.read(5000), file.read(7)] == [large[10:11], large[11:5011], large[5011:5018]]
        file.seek(-10, 2)
        assert [file.read(4096), file.read(4096)] == [large[-10:], b""]
    with fsspec.open(f"{ROOT}/tables/labels.csv", "rt") as file:
        assert list(file) == LABELS.splitlines(keepends=True)


def test_slices(fs: PackageFileSystem, folder: Path) -> None:
    large, path = (folder / "large.bin").read_bytes(), f"{ROOT}/large.bin"
    boundary = 8 << 20
    slices = [
        (0, 10),
        (boundary - 5, boundary + 5),
        (-7, None),
        (None, 3),
        (5, -1 * len(large) + 9),
        (9, 3),
        (len(large) + 1, None),
    ]
    found = fs.cat_ranges([path] * len(slices), [start for start, _ in slices], [end for _, end in slices])
    assert found == [large[start:end] for start, end in slices]
    assert fs.cat_file(path, 1, 4) == large[1:4]
    first, second = fs.cat_ranges([f"{ROOT}/README.md", f"{ROOT}/gone"], 0, 3)
    assert first == b"# A"
    assert isinstance(second, FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges([f"{ROOT}/gone"], 0, 3, on_error="raise")


@pytest.mark.parametrize(
    ("path", "error", "says"),
    [
        ("fusepkg://", FileNotFoundError, "names no version of a package. Write fusepkg://bucket/name:tag/path"),
        ("fusepkg://local", FileNotFoundError, "names no version"),
        ("fusepkg://local/small/README.md", FileNotFoundError, "names no version"),
        ("fusepkg://local/a/b/c:d", FileNotFoundError, "names no version"),
        ("fusepkg://local/small:v9/README.md", FileNotFoundError, "v9"),
        ("fusepkg://local/missing:v1/README.md", FileNotFoundError, "missing"),
        ("fusepkg://local/small@xyz/README.md", FileNotFoundError, "not a hash"),
        (f"{ROOT}/gone", FileNotFoundError, "gone"),
        (f"{ROOT}/../README.md", FileNotFoundError, "leads out of the package"),
        (f"{ROOT}/README.md/x", NotADirectoryError, "not a directory"),
        (f"{ROOT}/train", IsADirectoryError, "a directory"),
        (ROOT, IsADirectoryError, "a directory"),
    ],
)  # fmt: skip
def test_what_cannot_be_opened(fs: PackageFileSystem, path: str, error: type[OSError], says: str) -> None:
    with pytest.raises(error, match=says.replace("?", "\\?")) as caught:
        fs.open(path)
    assert isinstance(caught.value.__cause__, FusepkgError)
    is_of_the_version = path.startswith(ROOT)
    with pytest.raises(error if is_of_the_version else OSError) as caught:
        fs.cat_file(path)
    # Zarr takes a chunk that is "not found" for one full of zeros, also where it is the package that was not found.
    assert isinstance(caught.value, FileNotFoundError) <= is_of_the_version
    assert fs.exists(path) is (error is IsADirectoryError)


def test_nothing_can_be_written(fs: PackageFileSystem, tmp_path: Path) -> None:
    attempts = [
        lambda: fs.open(f"{ROOT}/new", "wb"),
        lambda: fs.open(f"{ROOT}/README.md", "ab"),
        lambda: fs.pipe(f"{ROOT}/new", b"x"),
        lambda: fs.rm(f"{ROOT}/README.md"),
        lambda: fs.mkdir(f"{ROOT}/new"),
        lambda: fs.makedirs(f"{ROOT}/new/er", exist_ok=True),
        lambda: fs.mv(f"{ROOT}/README.md", f"{ROOT}/new"),
        lambda: fs.copy(f"{ROOT}/README.md", f"{ROOT}/new"),
        lambda: fs.touch(f"{ROOT}/new"),
        lambda: fs.put(__file__, f"{ROOT}/new"),
    ]
    for attempt in attempts:
        with pytest.raises(OSError, match="never changes") as caught:
            attempt()
        assert caught.value.errno == errno.EROFS


def test_wrong_options_are_named() -> None:
    with pytest.raises(FusepkgError, match=r"endpoint.*not all options"):
        fsspec.filesystem("fusepkg", endpoint="http://x")


def test_a_tag_is_looked_up_once(fs: PackageFileSystem, fusepkg, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("FUSEPKG_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "moving").mkdir()
    for text in ("one", "two"):
        (tmp_path / "moving" / "x").write_text(text)
        fusepkg("push", tmp_path / "moving", "local/moving:v1")
        with ThreadPoolExecutor(4) as pool:
            read = list(pool.map(lambda _: fsspec.filesystem("fusepkg").cat_file("local/moving:v1/x"), range(4)))
        assert set(read) == {b"one"}
    fs.invalidate_cache()
    assert fs.cat_file("local/moving:v1/x") == b"two"


def test_pickles(fs: PackageFileSystem, home: Path) -> None:
    other = PackageFileSystem(cache_dir=home / "other", region="eu-central-1")
    assert pickle.loads(pickle.dumps(other))._flags == other._flags
    with fs.open(f"{ROOT}/tables/labels.csv") as file:
        file.seek(5)
        copy = pickle.loads(pickle.dumps(file))
    assert copy.read().decode() == LABELS[5:]


def _read(fs: PackageFileSystem) -> bytes:
    return fs.cat_file(f"{ROOT}/README.md") + fs.open(f"{ROOT}/large.bin").read()[-10:]


def test_programs_of_asyncio_read_through_the_wrapper_of_fsspec(fs: PackageFileSystem, folder: Path) -> None:
    wrapped = AsyncFileSystemWrapper(fs, asynchronous=True)
    names = ["README.md", "train/class0/0.bin", "tables/labels.csv"]
    wanted = [(folder / name).read_bytes() for name in names]
    paths = [f"{ROOT}/{name}" for name in names]

    async def read() -> list[object]:
        each = await asyncio.gather(*(wrapped._cat_file(path) for path in paths))
        assert (await wrapped._info(paths[0]))["size"] == len(wanted[0])
        assert len(await wrapped._ls(f"{ROOT}/train")) == 2
        with pytest.raises(FileNotFoundError):
            await wrapped._cat_file(f"{ROOT}/gone")
        return [each, await wrapped._cat_ranges(paths, [0, 1, 2], [None, None, 5])]

    assert asyncio.run(read()) == [wanted, [wanted[0], wanted[1][1:], wanted[2][2:5]]]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes(fs: PackageFileSystem, folder: Path, method: str) -> None:
    wanted = _read(fs)
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.map_async(_read, [fs] * 2).get(timeout=120) == [wanted] * 2
        pool.close()
        pool.join()
    assert wanted.startswith((folder / "README.md").read_bytes())


def test_a_forked_worker_may_find_the_lock_held(fs: PackageFileSystem) -> None:
    fs.ls(ROOT)
    child = os.fork()
    if child == 0:
        os._exit(versions._lock.locked())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_cause_of_an_error_is_ours(fs: PackageFileSystem) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        fs.info("local/small:v9/x")
    assert isinstance(caught.value.__cause__, TagNotFound)
    assert not isinstance(caught.value.__cause__, EntryNotFound)
