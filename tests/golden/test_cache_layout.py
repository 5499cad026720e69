"""The layout on disk, byte for byte: a change here needs a new ``LAYOUT_VERSION``, or old caches are misread.

To accept a change: ``python -m tests.golden.test_cache_layout > tests/golden/cache_layout.txt``.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import lmdb
from fusepkg_cache import Algorithm, Cache, Digest, Pin, compute_digest
from fusepkg_cache.records import BLOCK_BYTES

GOLDEN = Path(__file__).with_name("cache_layout.txt")

SMALL = b"a small blob"
LARGE = bytes(range(256)) * (BLOCK_BYTES // 256) * 2 + b"tail"  # two blocks and a bit
SCOPE = bytes(range(24))  # whose checksum it is: a weak hash alone names no blob
TABLES = (b"small", b"large", b"used", b"totals")


def scoped(data: bytes) -> Digest:
    """A checksum with a scope."""
    return Digest(Algorithm.CRC64NVME, compute_digest(Algorithm.CRC64NVME, data).computed + SCOPE)


def entries(directory: Path) -> Iterator[str]:
    """What lies in a cache: files with their first bytes, and every record of LMDB."""
    for path in sorted(directory.rglob("*")):
        name, mode = path.relative_to(directory), path.stat().st_mode & 0o777
        if path.is_dir():
            yield f"{name}/ {mode:o}"
        elif path.suffix == ".mdb":
            yield f"{name} {mode:o}"
        elif path.parent.name == "pins":
            data = path.read_bytes()
            yield f"{name} {mode:o} {data[:8].hex()} now, in seconds, 8 bytes {data[16:].hex()}"
        else:
            yield f"{name} {mode:o} {path.stat().st_size} {path.read_bytes()[:16].hex()}"
    with lmdb.open(str(directory / "v1" / "lmdb"), max_dbs=8, map_size=1 << 30) as environment:
        for table in TABLES:
            handle = environment.open_db(table, create=False)
            with environment.begin() as transaction:
                for key, value in transaction.cursor(db=handle):
                    shown = value.hex()
                    if (table == b"used" or key == b"walked") and 0 <= time.time() - int.from_bytes(
                        value, "little"
                    ) < 60:
                        shown = "now, in seconds, 8 bytes"
                    yield f"{table.decode()} {key.hex()} = {shown}"


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


def test_an_old_cache_is_read(tmp_path: Path) -> None:
    """A cache made from the golden text alone, without our writing code, gives its blobs."""
    directory = tmp_path / "cache"
    records = []
    for line in GOLDEN.read_text().splitlines():
        if " = " in line:
            table, key, _, *value = line.split(" ")
            if table != "used" and value[0] != "now,":  # old caches lack some, and times are not in the golden text
                records.append((table.encode(), bytes.fromhex(key), bytes.fromhex("".join(value))))
        elif line.split(" ")[0].endswith("/"):
            (directory / line.split(" ")[0]).mkdir(parents=True)
        elif "/blobs/" in line:
            (directory / line.split(" ")[0]).write_bytes(LARGE)
        elif "/pins/" in line:
            name, _, magic, *_, rest = line.split(" ")
            (directory / name).write_bytes(bytes.fromhex(magic) + bytes(8) + bytes.fromhex(rest))
        elif "VERSION" in line:
            (directory / "v1" / "VERSION").write_bytes(bytes.fromhex(line.split(" ")[3]))
    with lmdb.open(str(directory / "v1" / "lmdb"), max_dbs=8, map_size=1 << 30) as environment:
        handles = {table: environment.open_db(table) for table in TABLES}
        with environment.begin(write=True) as transaction:
            for table, key, value in records:
                transaction.put(key, value, db=handles[table])
    with Cache(directory) as cache:
        assert cache.get(compute_digest(Algorithm.SHA2_256, SMALL)) == SMALL
        assert cache.get(compute_digest(Algorithm.SHA2_256_CHUNKED, SMALL)) == SMALL
        assert cache.get(compute_digest(Algorithm.SHA2_256, b"")) == b""
        large: Digest = compute_digest(Algorithm.SHA2_256_CHUNKED, LARGE)
        assert cache.read(large, BLOCK_BYTES - 1, 2) == LARGE[BLOCK_BYTES - 1 : BLOCK_BYTES + 1]
        for data in (SMALL, LARGE):
            assert cache.get(scoped(data)) == data
        assert cache.get(compute_digest(Algorithm.CRC64NVME, SMALL)) == SMALL
        found = cache.verify()
        assert found.ok
        assert not found.unrecorded
        assert (cache.info().bytes, cache.info().blobs) == (4 * len(SMALL) + 2 * len(LARGE), 7)
        assert cache.info().verification_failures == 0
        assert cache.pins() == [Pin("a pin", blobs=2, since=0)]
        assert cache.shrink(0).blobs == 6
        assert cache.get(scoped(SMALL)) == SMALL


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        sys.stdout.write(written(Path(place) / "cache"))
