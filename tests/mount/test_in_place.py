"""Packages of a registry on this disk, whose objects are read where they lie; see docs/reference/semantics.md."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
from fusepkg_cache.digest import MIN_CHUNK_BYTES

from tests.mount.conftest import ENGINES, require_engine
from tests.mount.mounting import files_below, forget_pages, mounted
from tests.trees import LARGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.command import Fusepkg
    from tests.mount.conftest import Originals
    from tests.mount.mounting import Mount
    from tests.mount.places import Folder

pytestmark = pytest.mark.fuse

FILE = "test/class1/3.bin"


@pytest.fixture(params=ENGINES)
def mount(
    request: pytest.FixtureRequest, folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Mount]:
    """``local/small:v1``, read in place."""
    engine = require_engine(request.param)
    monkeypatch.delenv("FUSEPKG_COPY_LOCAL")
    for name, value in folder.settings.items():
        monkeypatch.setenv(name, value)
    with mounted(folder.reference("small:v1"), tmp_path / "m", engine) as mount:
        yield mount


def read_again(path: Path) -> bytes:
    forget_pages(path)
    return path.read_bytes()


def test_nothing_is_copied(mount: Mount, originals: Originals, home: Path, fusepkg: Fusepkg) -> None:
    """Objects that are files on a disk of this machine are read where they lie, and the cache does not grow by them."""
    for _ in range(2):
        for name in files_below(originals.small):
            assert read_again(mount / name) == (originals.small / name).read_bytes()
    counters = mount.counters
    assert (counters["fetched_objects"], counters["cache_hits"], counters["cache_misses"]) == (0, 0, 0)
    assert counters["in_place_bytes"] == counters["served_bytes"] > LARGE_BYTES // 16
    kept = sum(path.stat().st_size for path in (home / "fusepkg-cache" / "blobs").rglob("segments/*"))
    kept += sum(path.stat().st_size for path in (home / "fusepkg-cache" / "blobs").rglob("blobs/*/*/*"))
    assert kept < 4096, "the list of a large file's chunks, and no more"
    assert mount.facts(FILE)["cached"] == "yes"
    assert "where they lie" in fusepkg("status", mount.root).stdout
    assert "fetched 0 bytes" in fusepkg("prefetch", mount.root).stderr


def test_a_file_that_changes_is_noticed_at_the_next_read(mount: Mount, folder: Folder, originals: Originals) -> None:
    """A file that changes after it was read in place gives EIO when the kernel asks for it again, never other bytes."""
    right = (originals.small / FILE).read_bytes()
    url = mount.url(FILE)
    assert (mount / FILE).read_bytes() == right
    changes = (right[:-1] + bytes([right[-1] ^ 1]), right[:9], right + b"\0", b"", None)
    for number, wrong in enumerate(changes):
        with folder.replaced(url, wrong):
            forget_pages(mount / FILE)
            with pytest.raises(OSError, match="Input/output error"):
                (mount / FILE).read_bytes()
            assert mount.counters["failed_fetches"] > number
            assert url in mount.log()
        assert read_again(mount / FILE) == right


def test_a_changed_block_of_a_large_file(mount: Mount, folder: Folder, originals: Originals) -> None:
    """One block of a large file that changes after it was verified gives EIO; the other chunk can be read."""
    right = (originals.small / "large.bin").read_bytes()
    assert (mount / "large.bin").read_bytes() == right
    at = MIN_CHUNK_BYTES // 2
    with folder.replaced(mount.url("large.bin"), right[:at] + bytes([right[at] ^ 1]) + right[at + 1 :]):
        forget_pages(mount / "large.bin")
        descriptor = os.open(mount / "large.bin", os.O_RDONLY)
        try:
            with pytest.raises(OSError) as caught:
                os.pread(descriptor, 10, at)
            assert caught.value.errno == errno.EIO
            assert os.pread(descriptor, 4000, MIN_CHUNK_BYTES) == right[MIN_CHUNK_BYTES:][:4000]
        finally:
            os.close(descriptor)
    assert read_again(mount / "large.bin") == right


def test_a_large_file_without_a_list_of_chunks(mount: Mount, folder: Folder, originals: Originals) -> None:
    """A large file of a registry on this disk that has no list of chunks is hashed whole, and not copied either."""
    value = str(mount.facts("large.bin")["hash"]).partition(":")[2]
    with folder.replaced(folder.chunk_list_url(value), None):
        assert read_again(mount / "large.bin") == (originals.small / "large.bin").read_bytes()
    assert mount.counters["fetched_bytes"] == 0
