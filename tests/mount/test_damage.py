"""What readers get when objects, transfers or the cache are damaged: the right bytes or an error, never others."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fusepkg_cache.digest import MIN_CHUNK_BYTES

from fusepkg.index.files import ENTRIES, IMAGE, SEAL, index_directory
from tests.mount.mounting import files_below, forget_pages, mounted
from tests.mount.places import Bucket, surroundings
from tests.proxy import ACCESS_DENIED, SLOW_DOWN, Corrupt, Reset, Truncate
from tests.trees import LARGE_BYTES
from tests.unit.cache import fuse_disk

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.command import Fusepkg
    from tests.mount.conftest import Originals
    from tests.mount.mounting import Mount
    from tests.mount.places import Folder, Place
    from tests.proxy import Fault

    MountFactory = Callable[..., AbstractContextManager[Mount]]

pytestmark = pytest.mark.fuse

FILE = "test/class1/3.bin"
LARGE_FILE = "sizes/large.bin"


def errno_of_reading(path: Path) -> int:
    """The errno of reading a file; fails where it can be read."""
    with pytest.raises(OSError) as caught:
        path.read_bytes()
    assert caught.value.errno is not None
    return caught.value.errno


CHANGES: dict[str, Callable[[bytes], bytes | None]] = {
    "one bit": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "truncated": lambda data: data[: len(data) // 2],
    "emptied": lambda data: b"",
    "longer": lambda data: data + b"\0",
    "others": lambda data: b"entirely other bytes",
    "deleted": lambda data: None,
}


def test_corrupt_object(place: Place, mount: MountFactory, originals: Originals) -> None:
    """A changed, truncated or deleted object gives EIO and a log line that names it; all else goes on.

    Restored, it can be read at once.
    """
    right = (originals.small / FILE).read_bytes()
    with mount("small:v1") as mounted:
        url = mounted.url(FILE)
        for number, (name, change) in enumerate(CHANGES.items()):
            told = len(mounted.log())
            with place.replaced(url, change(right)):
                assert errno_of_reading(mounted / FILE) == errno.EIO, name
                lines = [line for line in mounted.log()[told:].splitlines() if " ERROR " in line]
                assert any(url in line and FILE in line for line in lines), (name, mounted.log())
                assert mounted.counters["failed_fetches"] > number
                assert (mounted / "README.md").read_bytes() == (originals.small / "README.md").read_bytes()
        assert (mounted / FILE).read_bytes() == right
        assert mounted.counters["digest_mismatches"] >= len(CHANGES) - 1
        assert "Traceback" not in mounted.log()


def test_a_damaged_chunk_of_a_large_file(place: Place, mount: MountFactory, originals: Originals) -> None:
    """Damage in one chunk of a large file leaves the others readable."""
    data = (originals.big / LARGE_FILE).read_bytes()
    hurt = 4 * MIN_CHUNK_BYTES + 12_345
    with mount("big:v1") as mounted:
        url = mounted.url(LARGE_FILE)
        with place.replaced(url, data[:hurt] + bytes([data[hurt] ^ 1]) + data[hurt + 1 :]):
            descriptor = os.open(mounted / LARGE_FILE, os.O_RDONLY)
            try:
                for at in (4 * MIN_CHUNK_BYTES, 5 * MIN_CHUNK_BYTES - 1):
                    with pytest.raises(OSError, match="Input/output error"):
                        os.pread(descriptor, 1, at)
                for at in (0, 4 * MIN_CHUNK_BYTES - 300_000, 5 * MIN_CHUNK_BYTES, LARGE_BYTES - 1000):
                    assert os.pread(descriptor, 1000, at) == data[at : at + 1000]
            finally:
                os.close(descriptor)
        with (mounted / LARGE_FILE).open("rb") as file:
            file.seek(4 * MIN_CHUNK_BYTES)
            assert file.read(MIN_CHUNK_BYTES) == data[4 * MIN_CHUNK_BYTES : 5 * MIN_CHUNK_BYTES]


def test_a_large_object_cut_short(place: Place, mount: MountFactory, originals: Originals) -> None:
    """A changed, truncated or deleted object gives EIO and a log line that names it; all else goes on."""
    data = (originals.small / "large.bin").read_bytes()
    with mount("small:v1") as mounted:
        with place.replaced(mounted.url("large.bin"), data[:-1]):
            assert errno_of_reading(mounted / "large.bin") == errno.EIO
        assert (mounted / "large.bin").read_bytes() == data


@pytest.mark.parametrize("damage", [None, b"\0" * 64, b"odd"], ids=["deleted", "wrong", "odd"])
def test_without_the_list_of_chunks(
    place: Place, mount: MountFactory, originals: Originals, damage: bytes | None
) -> None:
    """A large file whose list of chunks is lost or damaged is fetched whole, checked, and served from the cache."""
    with mount("small:v1") as mounted:
        facts = mounted.facts("large.bin")
        with place.replaced(place.chunk_list_url(str(facts["hash"]).partition(":")[2]), damage):
            assert (mounted / "large.bin").read_bytes() == (originals.small / "large.bin").read_bytes()
            counters = mounted.counters
            assert (counters["fetched_objects"], counters["fetched_bytes"]) == (1, facts["size"])
            assert mounted.facts("large.bin")["cached"] == "yes"


# --- the way between ---


@pytest.mark.s3
@pytest.mark.parametrize("place", ["s3"], indirect=True)
@pytest.mark.parametrize(
    "fault",
    [Corrupt(), Corrupt(0), Truncate(), Truncate(honest=False), Reset(), SLOW_DOWN],
    ids=["corrupt", "corrupt at the start", "broken off", "short", "reset", "slow down"],
)
def test_a_transfer_that_fails_once(place: Place, mount: MountFactory, originals: Originals, fault: Fault) -> None:
    """A transfer that fails or arrives damaged is tried again; the reader notices nothing."""
    assert isinstance(place, Bucket)
    with mount("small:v1") as mounted:
        rule = place.proxy.fail(fault, key=f"small/{FILE}")
        assert (mounted / FILE).read_bytes() == (originals.small / FILE).read_bytes()
        assert rule.hits == 1
        assert place.proxy.operations(key=f"small/{FILE}") == ["GetObject"] * 2
        assert mounted.counters["failed_fetches"] == 0


@pytest.mark.s3
@pytest.mark.parametrize("place", ["s3"], indirect=True)
def test_access_denied(place: Place, engine: str, mount: MountFactory, originals: Originals) -> None:
    """Access denied by the bucket is EACCES with the fuse engine; erofs knows only EIO."""
    assert isinstance(place, Bucket)
    with mount("small:v1") as mounted:
        place.proxy.fail(ACCESS_DENIED, key=f"small/{FILE}", times=None)
        assert errno_of_reading(mounted / FILE) == (errno.EACCES if engine == "fuse" else errno.EIO)
        assert mounted.url(FILE) in mounted.log()
        assert (mounted / "run.sh").read_bytes() == (originals.small / "run.sh").read_bytes()
        place.proxy.heal()
        assert (mounted / FILE).read_bytes() == (originals.small / FILE).read_bytes()


def test_bucket_down_then_up(place: Place, mount: MountFactory, originals: Originals) -> None:
    """While the bucket cannot be reached, what is cached is read and the rest gives EIO; later all is read."""
    with mount("small:v1") as mounted:
        (mounted / "run.sh").read_bytes()
        mounted.wait_until_kept("run.sh")
        with place.gone():
            forget_pages(mounted / "run.sh")
            assert (mounted / "run.sh").read_bytes() == (originals.small / "run.sh").read_bytes()
            assert errno_of_reading(mounted / FILE) == errno.EIO
            assert sorted(os.listdir(mounted / "train")) == ["class0", "class1"]
        assert (mounted / FILE).read_bytes() == (originals.small / FILE).read_bytes()


# --- the cache ---


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))


def test_corrupt_cache(home: Path, mount: MountFactory, originals: Originals) -> None:
    """Every cached byte is checked before it is given out: where the disk has changed it, it is fetched again."""
    names = files_below(originals.small)
    with mount("small:v1", at="before") as mounted:
        for name in names:
            (mounted / name).read_bytes()
        mounted.wait_until_kept(*names, wholly=True)
    cache = home / "fusepkg-cache" / "blobs"
    small = (originals.small / FILE).read_bytes()
    places = [
        (segment, found.start())
        for segment in cache.glob("v*/segments/*")
        for found in re.finditer(re.escape(small[:64]), segment.read_bytes())
    ]
    assert places
    for segment, at in places:
        flip(segment, at + 40)
    blobs = [path for path in cache.glob("v*/blobs/*/*/*") if path.stat().st_size > MIN_CHUNK_BYTES // 2]
    assert len(blobs) == 1  # the first chunk of the large file; the second is small
    flip(blobs[0], 1_000_000)
    with mount("small:v1") as mounted:
        for name in names:
            assert (mounted / name).read_bytes() == (originals.small / name).read_bytes(), name
        assert mounted.counters["fetched_objects"] == 2


def test_a_cache_whose_files_are_cut_off_and_whose_disk_fails(
    folder: Folder, engine: str, originals: Originals, tmp_path: Path
) -> None:
    """Nothing of the cache is mapped: a file cut off under a mount, or a failing disk, costs time and no mount."""
    names = files_below(originals.small)

    def check(mount: Mount) -> None:
        for name in names:
            forget_pages(mount / name)
            assert (mount / name).read_bytes() == (originals.small / name).read_bytes(), name

    with fuse_disk.mounted(tmp_path) as disk:
        cache = disk.path / "cache"
        with (
            surroundings(tmp_path, folder.settings | {"FUSEPKG_CACHE_DIR": str(cache), "FUSEPKG_COPY_LOCAL": "1"}),
            mounted("local/small:v1", tmp_path / "m", engine) as mount,
        ):
            check(mount)
            mount.wait_until_kept(*names, wholly=True)
            layout = cache / "blobs" / "v2"
            for path in (layout / "index", *(layout / "segments").iterdir(), *layout.glob("blobs/*/*/*")):
                for share in (2, 1000, 1 << 60):
                    with suppress(FileNotFoundError):  # a damaged blob is dropped, and may be while this looks
                        os.truncate(path, path.stat().st_size // share)
                    check(mount)
            for failing in (["read"], ["write", "fsync"], ["open", "read", "write", "fsync"]):
                disk.fail(*failing)
                check(mount)
            disk.fail()
            check(mount)
            assert mount.counters["failed_fetches"] == 0
            assert "Traceback" not in mount.log()


def test_clearing_the_cache_under_a_live_mount(mount: MountFactory, originals: Originals, fusepkg: Fusepkg) -> None:
    """`fusepkg cache clear` may be run at any time: live mounts go on, and fetch again what they need."""
    names = files_below(originals.small)
    with mount("small:v1") as mounted:
        for name in names:
            (mounted / name).read_bytes()
        mounted.wait_until_kept(*names, wholly=True)
        fetched = mounted.counters["fetched_objects"]
        with (mounted / "large.bin").open("rb") as held:
            assert fusepkg("cache", "clear").stderr.startswith("Dropped")
            assert mounted.facts(FILE)["cached"] == "no"
            for name in names:
                forget_pages(mounted / name)
                assert (mounted / name).read_bytes() == (originals.small / name).read_bytes()
            held.seek(MIN_CHUNK_BYTES)
            assert held.read() == (originals.small / "large.bin").read_bytes()[MIN_CHUNK_BYTES:]
        assert mounted.counters["fetched_objects"] == 2 * fetched
        assert files_below(mounted.root) == names
    with mount("small:v1", at="again") as again:
        assert files_below(again.root) == names


def test_cache_directory_removed(home: Path, mount: MountFactory, originals: Originals) -> None:
    """A cache that vanishes or whose disk is full is no reader's trouble: reads go on from the bucket."""
    names = files_below(originals.small)
    with mount("small:v1") as mounted:
        (mounted / FILE).read_bytes()
        (home / "fusepkg-cache" / "blobs").rename(home / "removed")
        shutil.rmtree(home / "removed", ignore_errors=True)
        for name in names:
            assert (mounted / name).read_bytes() == (originals.small / name).read_bytes()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a small disk")
def test_full_cache_disk(home: Path, mount: MountFactory, originals: Originals) -> None:
    """A cache that vanishes or whose disk is full is no reader's trouble: reads go on from the bucket."""
    names = files_below(originals.small)
    disk = home / "fusepkg-cache"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", disk], check=True)
    try:
        with mount("small:v1") as mounted:
            for name in names:
                assert (mounted / name).read_bytes() == (originals.small / name).read_bytes()
            assert mounted.counters["failed_fetches"] == 0
            assert mounted.facts("large.bin")["cached"] != "yes"
    finally:
        subprocess.run(["umount", disk], check=True)


def test_corrupt_index(folder: Folder, engine: str, originals: Originals, tmp_path: Path) -> None:
    """A flipped bit, a cut or a loss in the index is repaired, at mount and in use: readers only wait for it."""
    names = files_below(originals.big)
    with surroundings(tmp_path, folder.settings):
        for again in range(2):  # what is damaged in use, and what the next mount finds damaged
            with mounted(folder.reference("big:v1"), tmp_path / "m", engine) as mount:
                index = index_directory(Path(mount.record.index_root), mount.record.top_hash)
                if not again:
                    for name in (IMAGE, ENTRIES):
                        flip_a_bit_of_each_block(index / name)
                assert files_below(mount.root) == names
                for path in names[::200]:
                    assert (mount / path).stat().st_size == (originals.big / path).stat().st_size
                    with (mount / path).open("rb") as ours, (originals.big / path).open("rb") as theirs:
                        assert ours.read(50_000) == theirs.read(50_000)
                assert "rebuilding it" in mount.log() or again
            flip_a_bit_of_each_block(index / IMAGE)
            (index / SEAL).unlink()


def flip_a_bit_of_each_block(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for at in range(7, len(data), 4096):
        data[at] ^= 1
    path.write_bytes(data)
