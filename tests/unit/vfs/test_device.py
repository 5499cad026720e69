"""The data of a package as one device: any range equals the same slice of the files laid end to end in blocks."""

from __future__ import annotations

import stat
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from fusepkg_cache import Cache

from fusepkg.errors import ObjectMissing
from fusepkg.fetch.reader import EntryReader
from fusepkg.index.build import build_index
from fusepkg.index.erofs import BLOCK_BYTES
from fusepkg.index.opening import Index, open_index
from fusepkg.model.entry import Entry
from fusepkg.model.physical_key import PhysicalKey
from fusepkg.store.faulty import Fault, FaultyStore
from fusepkg.store.memory import MemoryStore
from fusepkg.vfs.device import DataDevice, ImageFile, RootOwner
from tests.manifests import file_entry, in_order, manifest_of, symlink_entry

FILES = {
    "a": b"a" * 10,
    "b/empty": b"",
    "b/exact": b"b" * BLOCK_BYTES,
    "b/two": b"c" * (BLOCK_BYTES + 1),
    "c": b"d",
    "d/last": b"",
}
DEVICE = b"".join(data + bytes(-len(data) % BLOCK_BYTES) for data in FILES.values())


def unversioned(entry: Entry) -> Entry:
    return Entry(entry.logical_key, PhysicalKey("s3", "memory", entry.logical_key), entry.size, entry.digest)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    entries = in_order(unversioned(file_entry(key, data)) for key, data in FILES.items())
    manifest = manifest_of(entries)
    top_hash = build_index([manifest], tmp_path / "index", expected_top_hash=None, allow_file_keys=False)
    index = open_index(tmp_path / "index", top_hash)
    assert index is not None
    return index


@asynccontextmanager
async def device_of(index: Index, tmp_path: Path) -> AsyncIterator[tuple[DataDevice, FaultyStore]]:
    store = FaultyStore(MemoryStore())
    for key, data in FILES.items():
        store.inner.overwrite(key, data)
    with Cache(tmp_path / "cache") as cache:
        async with trio.open_nursery() as nursery:
            source = EntryReader(lambda: cache, lambda place: (store, place.key), lambda _: [], nursery)
            yield DataDevice(index, source), store
            source.close()


EDGES = sorted({edge + by for edge in range(0, len(DEVICE) + 1, BLOCK_BYTES) for by in (-1, 0, 1, 11)} - {-1})


async def test_any_range_is_that_slice_of_the_files_in_blocks(index: Index, tmp_path: Path):
    async with device_of(index, tmp_path) as (device, _):
        assert device.size == len(DEVICE)
        for start in EDGES:
            for end in EDGES:
                if end > start:
                    assert await device.read(start, end - start) == DEVICE[start:end], (start, end)


async def test_files_of_one_range_are_fetched_side_by_side_and_empty_ones_not_at_all(index: Index, tmp_path: Path):
    async with device_of(index, tmp_path) as (device, store):
        await device.read(0, device.size)
        assert sorted(key for _, key in store.calls) == ["a", "b/exact", "b/two", "c"]


async def test_one_missing_object_fails_the_ranges_it_lies_in_and_no_other(index: Index, tmp_path: Path):
    async with device_of(index, tmp_path) as (device, store):
        store.add(Fault("get", key="b/exact", error=ObjectMissing("gone"), times=None))
        with pytest.raises(ObjectMissing):
            await device.read(BLOCK_BYTES, 1)
        with pytest.raises(ExceptionGroup) as caught:
            await device.read(0, device.size)
        assert caught.group_contains(ObjectMissing)
        assert await device.read(0, BLOCK_BYTES) == DEVICE[:BLOCK_BYTES]


@pytest.mark.parametrize("step", [1, 3, 7, 64, BLOCK_BYTES])
def test_the_image_served_differs_from_the_index_in_the_roots_owner_only(index: Index, step: int):
    image = ImageFile(index, RootOwner(stat.S_IFDIR | 0o700, 1000, 2000))
    start = index.image.inode_offset(index.image.root)
    near = range(start - 8, start + 64)
    served = b"".join(image.read(at, min(step, near.stop - at)) for at in range(near.start, near.stop, step))
    expected = bytearray(index.image.read(near.start, len(near)))
    struct.pack_into("<H", expected, 8 + 4, stat.S_IFDIR | 0o700)
    struct.pack_into("<II", expected, 8 + 24, 1000, 2000)
    assert served == expected
    assert image.read(0, start) == index.image.read(0, start)
    assert image.read(image.size - 3, 100) == index.image.read(image.size - 3, 100)


def test_one_time_for_all_is_put_into_every_inode_and_nowhere_else(tmp_path: Path):
    entries = in_order(
        symlink_entry(f"{number}/l", "x" * (number * 37 % 3000 + 1))
        if number % 3
        else file_entry(f"{number}/{number}", b"x" * (number % 2))
        for number in range(300)
    )
    top_hash = build_index([manifest_of(entries)], tmp_path, expected_top_hash=None, allow_file_keys=False)
    index = open_index(tmp_path, top_hash)
    assert index is not None
    expected = bytearray(index.image.read(0, index.image.size))
    waiting = [0]
    while waiting:
        nid = waiting.pop()
        struct.pack_into("<Q", expected, index.image.inode_offset(nid) + 32, 1_700_000_000)
        if index.image.inode(nid).is_directory:
            waiting += [child for name, child, _, _ in index.image.readdir(nid) if name not in (b".", b"..")]
    owner = RootOwner(index.image.inode(0).mode, 0, 0)
    image = ImageFile(index, owner, 1_700_000_000)
    assert image.read(0, image.size) == expected
    for at in range(0, image.size - 5000, 4097):
        assert image.read(at, 5000) == expected[at : at + 5000]
