"""A bucket in memory with blobs in it, and sources of their bytes that share a cache directory as processes do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio
from fusepkg_cache import Cache
from fusepkg_cache.digest import MIN_CHUNK_BYTES, Algorithm, compute_digest
from trio.testing import wait_all_tasks_blocked

from fusepkg.fetch.packs import VersionPacks
from fusepkg.fetch.reader import EntryReader
from fusepkg.model.entry import Entry
from fusepkg.model.physical_key import PhysicalKey
from fusepkg.registry.layout import block_list_key, chunk_list_key
from fusepkg.registry.manifests import get_chunk_list
from fusepkg.store.faulty import FaultyStore
from fusepkg.store.memory import MemoryStore

CHUNK = MIN_CHUNK_BYTES
SMALL = bytes(range(256)) * 40
LARGE = bytes(CHUNK) + b"\1" * CHUNK + b"the end"
PAGE = 128 * 1024
"""What a kernel asks for at once."""


@dataclass
class Desk:
    """A bucket, and where the cache lies."""

    directory: Path
    store: FaultyStore = field(default_factory=lambda: FaultyStore(MemoryStore()))
    retry_timeout_s: float = 0
    """By default a request that fails is not made again."""
    damaged: list[PhysicalKey] = field(default_factory=list)
    """Objects that were found damaged."""
    versions: list[VersionPacks] = field(default_factory=list)
    """What sources know to be read."""
    moved: dict[str, PhysicalKey] = field(default_factory=dict)
    """Where the bytes of entries lie now, by logical key."""

    def put(self, key: str, data: bytes, *, algorithm: Algorithm = Algorithm.SHA2_256_CHUNKED) -> Entry:
        """Put an object, and give its entry; no chunk list."""
        self.store.inner.overwrite(key, data)
        return Entry(key, PhysicalKey("s3", "memory", key), len(data), compute_digest(algorithm, data))

    def put_large(self, key: str = "large") -> Entry:
        """Put ``LARGE``, with its chunk list."""
        entry = self.put(key, LARGE)
        self.put_chunk_list(entry, LARGE)
        return entry

    def put_chunk_list(self, entry: Entry, data: bytes) -> None:
        """Put the chunk list of a blob."""
        chunks = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]
        hashes = b"".join(compute_digest(Algorithm.SHA2_256, chunk).value for chunk in chunks)
        self.store.inner.overwrite(chunk_list_key(entry.digest), hashes)

    def open_cache(self) -> Cache:
        """The cache, as every process opens it."""
        return Cache(self.directory)

    @asynccontextmanager
    async def source(
        self, open_cache: Callable[[], Cache] | None = None, *, settle: bool = True
    ) -> AsyncIterator[EntryReader]:
        """A source of its own, as of another process."""
        async with trio.open_nursery() as nursery:
            source = EntryReader(
                open_cache or self.open_cache,
                lambda place: (self.store, place.key),
                lambda digest: get_chunk_list(self.store, digest),
                nursery,
                retry_timeout_s=self.retry_timeout_s,
                note_damaged=self.damaged.append,
                elsewhere=lambda entry: self.moved.get(entry.logical_key),
                versions=lambda: self.versions,
                block_list=lambda root: PhysicalKey("s3", "memory", block_list_key(root)),
            )
            try:
                yield source
                if settle:
                    await settled(source)
            finally:
                source.close()

    @property
    def fetched(self) -> int:
        """GETs of data so far."""
        return sum(not key.startswith(".quilt/") for call, key in self.store.calls if call in ("get", "stream"))


async def settled(source: EntryReader) -> None:
    """Wait until all that was fetched is kept, or could not be."""
    with trio.fail_after(30):
        while source.under_way:
            await wait_all_tasks_blocked()


async def read_in_pages(source: EntryReader, entry: Entry) -> bytes:
    """A whole entry as a kernel reads it; what was fetched for a page is settled before the next."""
    pages = []
    for offset in range(0, entry.size, PAGE):
        pages.append(await source.read(entry, offset, PAGE))
        await settled(source)
    return b"".join(pages)
