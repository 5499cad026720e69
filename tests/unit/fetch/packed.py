"""A version of many small files in a bucket in memory, with packs, as the sources of ``desk`` read it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fusepkg_cache.digest import Algorithm, compute_digest

from fusepkg.fetch.packs import VersionPacks
from fusepkg.fetch.reader import EntryReader
from fusepkg.index.build import build_index
from fusepkg.index.opening import Index, open_index
from fusepkg.model.entry import Entry
from fusepkg.model.manifest import write_entry, write_header
from fusepkg.model.physical_key import PhysicalKey, parse_physical_key
from fusepkg.model.tophash import TopHash
from fusepkg.publish.packs import PackReport, pack_version
from fusepkg.registry.layout import pack_key
from fusepkg.registry.packs import get_pack_table
from fusepkg.store.faulty import FaultyStore
from fusepkg.store.memory import MemoryStore
from tests.unit.fetch.desk import Desk

HEADER = {"version": "v0"}


@dataclass
class PackedDesk(Desk):
    """``files`` files of ``size`` bytes, each its own."""

    files: int = 600
    size: int = 2_000
    contents: dict[str, bytes] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    index: Index = None  # type: ignore[assignment]  # set when it is made

    @classmethod
    def make(cls, directory: Path, files: int = 600, size: int = 2_000) -> PackedDesk:
        """A desk with its version and packs."""
        desk = cls(directory / "cache", FaultyStore(MemoryStore()), files=files, size=size)
        for number in range(files):
            key = f"d{number // 200:02}/{number:05}"
            desk.contents[key] = random.Random(number).randbytes(size)
            desk.store.inner.overwrite(key, desk.contents[key])
        desk.index = desk.index_of(desk.contents, directory / "index")
        desk.entries = list(desk.index.entries)
        desk.pack()
        return desk

    def index_of(self, contents: dict[str, bytes], root: Path) -> Index:
        """The index of a version that holds these files, in this order."""
        entries = [
            Entry(key, PhysicalKey("s3", "memory", key), len(data), compute_digest(Algorithm.SHA2_256_CHUNKED, data))
            for key, data in contents.items()
        ]
        top_hash = TopHash(HEADER)
        for entry in entries:
            top_hash.update(entry)
        root.mkdir(parents=True, exist_ok=True)
        manifest = root / "manifest"
        manifest.write_bytes(write_header(HEADER) + b"".join(map(write_entry, entries)))
        build_index(manifest, root, expected_top_hash=top_hash.hexdigest(), allow_file_keys=True)
        index = open_index(root, top_hash.hexdigest())
        assert index is not None
        return index

    def pack(self) -> PackReport:
        """Write the packs, and forget the calls that took."""
        report = pack_version(self.store.inner, self.index, lambda entry: self.contents[entry.logical_key])
        self.store.calls.clear()
        return report

    @property
    def packs(self) -> list[str]:
        """Keys of all packs."""
        return [info.key for info in self.store.inner.list(".quilt/packs/data/")]

    @property
    def ranges(self) -> int:
        """GETs of parts of packs so far."""
        return sum(key.startswith(".quilt/packs/data/") for _, key in self.store.calls)

    def version(self) -> VersionPacks:
        """The version, as a mount looks at it."""
        return VersionPacks(
            self.index,
            lambda top_hash: get_pack_table(self.store, top_hash),
            lambda name: parse_physical_key(self.store.url(pack_key(name))),
        )

    @asynccontextmanager
    async def packed_source(self) -> AsyncIterator[EntryReader]:
        """A source that knows the version, its table loaded."""
        version = self.version()
        await version.load_table()
        self.versions = [version]
        async with self.source() as source:
            yield source

    async def read(self, source: EntryReader, number: int) -> bytes:
        """Read an entry, and see that the bytes are right."""
        entry = self.entries[number]
        data = await source.read(entry, 0, entry.size)
        assert data == self.contents[entry.logical_key]
        return data
