"""The layout on disk, byte for byte: a change here needs a new ``LAYOUT_VERSION``, or old caches are misread.

To accept a change: ``python -m tests.golden.test_cache_layout > tests/golden/cache_layout.txt``.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from fusepkg_cache import Algorithm, Cache, Digest, Pin, compute_digest
from fusepkg_cache.index_file import IndexFile
from fusepkg_cache.index_page import (
    DIRECTORY_AT,
    HEADER_BYTES,
    PAGE_HEAD_BYTES,
    PAGES_AT,
    IndexHeader,
    packed_entries,
)
from fusepkg_cache.records import BLOCK_BYTES
from fusepkg_cache.segment_format import record_bytes
from fusepkg_cache.segments import Segments

from tests.unit.cache.evicting import shrink

GOLDEN = Path(__file__).with_name("cache_layout.txt")

SMALL = b"a small blob"
LARGE = bytes(range(256)) * (BLOCK_BYTES // 256) * 2 + b"tail"  # two blocks and a bit
SCOPE = bytes(range(24))  # whose checksum it is: a weak hash alone names no blob


def scoped(data: bytes) -> Digest:
    """A checksum with a scope."""
    return Digest(Algorithm.CRC64NVME, compute_digest(Algorithm.CRC64NVME, data).computed + SCOPE)


def entries(directory: Path) -> Iterator[str]:
    """What lies in a cache: files with their first bytes, every record and every entry of the index."""
    for path in sorted(directory.rglob("*")):
        name, mode = path.relative_to(directory), path.stat().st_mode & 0o777
        if path.is_dir():
            yield f"{name}/ {mode:o}"
        elif path.name == "index":
            yield f"{name} {mode:o}"
        elif path.parent.name == "pins":
            data = path.read_bytes()
            yield f"{name} {mode:o} {data[:8].hex()} now, in seconds, 8 bytes {data[16:].hex()}"
        elif path.parent.name == "segments":
            data = path.read_bytes()
            yield f"{name} {mode:o} {data[:8].hex()}"
            for record in Segments(path.parent).records(int(path.name, 16)):
                size = record_bytes(record.length)
                yield f"  {record.offset} {data[record.offset : record.offset + size].hex()}"
        else:
            yield f"{name} {mode:o} {path.stat().st_size} {path.read_bytes()[:16].hex()}"
    yield from index_entries(directory / "v2" / "index")


def index_entries(path: Path) -> Iterator[str]:
    """The header, without what is random, and the entries with what is around them."""
    file = IndexFile(path)
    header = file.header()
    shown = {
        name: getattr(header, name) for name in IndexHeader.__dataclass_fields__ if name not in ("secret", "walked")
    }
    yield f"index header {path.read_bytes()[8:16].hex()} of {HEADER_BYTES} bytes: {shown}"
    yield f"index directory {list(file.slots)} at {DIRECTORY_AT}, page at {PAGES_AT}"
    page = file.page(0)
    yield f"index page {page[8:PAGE_HEAD_BYTES].hex()}"
    for packed in packed_entries(page):
        used = int.from_bytes(packed[52:56], "little")
        now = "now, in seconds, 4 bytes" if 0 <= time.time() - used < 60 else packed[52:56].hex()
        yield f"index entry {packed[:52].hex()} {now} {packed[56:].hex()}"


def written(directory: Path) -> str:
    """The layout of a cache with known blobs."""
    with Cache(directory) as cache:
        for algorithm in Algorithm:
            cache.put(compute_digest(algorithm, SMALL), SMALL)
        cache.put(compute_digest(Algorithm.SHA2_256, b""), b"")
        cache.put(compute_digest(Algorithm.SHA2_256_CHUNKED, LARGE), LARGE)
        cache.put(scoped(SMALL), SMALL)
        cache.put(scoped(LARGE), LARGE)
        for data in (SMALL, LARGE, LARGE):
            cache.get(scoped(data))
        cache.get(compute_digest(Algorithm.SHA2_256, LARGE))
        cache.pin("a pin", [scoped(SMALL), compute_digest(Algorithm.SHA2_256, LARGE)])
    return "".join(f"{line}\n" for line in entries(directory))


def test_the_layout_is_what_it_was(tmp_path: Path) -> None:
    assert written(tmp_path / "cache") == GOLDEN.read_text()


def test_a_cache_is_read_without_its_index(tmp_path: Path) -> None:
    """A cache made from the golden text alone, without our writing code, gives its blobs."""
    directory = tmp_path / "cache"
    segment = b""
    for line in GOLDEN.read_text().splitlines():
        name, *rest = line.strip().split(" ")
        if name.endswith("/"):
            (directory / name).mkdir(parents=True, mode=0o700)
        elif line.startswith("  "):
            assert int(name) == len(segment)
            segment += bytes.fromhex(rest[0])
        elif "/segments/" in name:
            segment = bytes.fromhex(rest[1])
        elif "/blobs/" in name:
            (directory / name).write_bytes(LARGE)
        elif "/pins/" in name:
            (directory / name).write_bytes(bytes.fromhex(rest[1]) + bytes(8) + bytes.fromhex(rest[-1]))
        elif "VERSION" in name:
            (directory / "v2" / "VERSION").write_bytes(bytes.fromhex(rest[2]))
    (directory / "v2" / "segments" / "00000001").write_bytes(segment)
    with Cache(directory) as cache:
        finish_counting(cache)
        assert_all_is_there(cache)
        assert shrink(cache, 0).blobs == 8
        assert cache.get(scoped(SMALL)) == SMALL


def test_the_large_blobs_and_pins_of_an_older_layout_are_taken_over(tmp_path: Path) -> None:
    old = tmp_path / "cache" / "v1"
    with Cache(tmp_path / "new") as made:
        for digest in (compute_digest(Algorithm.SHA2_256_CHUNKED, LARGE), scoped(LARGE)):
            made.put(digest, LARGE)
        made.pin("a pin", [scoped(LARGE)])
    old.mkdir(parents=True)
    for name in ("blobs", "pins"):
        (tmp_path / "new" / "v2" / name).rename(old / name)
    (old / "VERSION").write_bytes(b"fusepkg-cache 1\n")
    (old / "lmdb").mkdir()
    (old / "lmdb" / "data.mdb").write_bytes(b"small blobs")
    with Cache(tmp_path / "cache") as cache:
        assert cache.get(scoped(LARGE)) == LARGE
        assert cache.get(compute_digest(Algorithm.SHA2_256_CHUNKED, LARGE)) == LARGE
        finish_counting(cache)
        assert (cache.info().large_blobs, cache.info().small_blobs) == (2, 0)
        assert [pin.name for pin in cache.pins()] == ["a pin"]
        cache.put(scoped(SMALL), SMALL)
    assert not old.exists()


def finish_counting(cache: Cache) -> None:
    """Do in this thread what the background would."""
    while cache._directory().bound.step() or not cache.info().complete:
        pass


def assert_all_is_there(cache: Cache) -> None:
    assert cache.get(compute_digest(Algorithm.SHA2_256, SMALL)) == SMALL
    assert cache.get(compute_digest(Algorithm.SHA2_256_CHUNKED, SMALL)) == SMALL
    assert cache.get(compute_digest(Algorithm.SHA2_256, b"")) == b""
    large: Digest = compute_digest(Algorithm.SHA2_256_CHUNKED, LARGE)
    assert cache.read(large, BLOCK_BYTES - 1, 2) == LARGE[BLOCK_BYTES - 1 : BLOCK_BYTES + 1]
    for data in (SMALL, LARGE):
        assert cache.get(scoped(data)) == data
    for weak in (Algorithm.CRC64NVME, Algorithm.MD5, Algorithm.MD5_DOS2UNIX):
        assert cache.get(compute_digest(weak, SMALL)) == SMALL
    found = cache.verify()
    assert found.ok
    assert not found.unrecorded
    assert (cache.info().bytes, cache.info().blobs) == (6 * len(SMALL) + 2 * len(LARGE), 9)
    assert cache.info().verification_failures == 0
    assert cache.pins() == [Pin("a pin", blobs=2, since=0)]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        sys.stdout.write(written(Path(place) / "cache"))
