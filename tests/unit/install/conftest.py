from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fusepkg_cache import Cache
from fusepkg_cache.digest import Algorithm, Digest, chunk_size, compute_digest

from fusepkg.fetch.direct import DirectReader
from fusepkg.index.build import build_index
from fusepkg.index.opening import Index, open_index
from fusepkg.install.run import InstallReport, install
from fusepkg.model.entry import Entry, EntryKind, meta_for
from fusepkg.model.physical_key import PhysicalKey
from fusepkg.registry.layout import chunk_list_key
from fusepkg.registry.manifests import get_chunk_list
from fusepkg.store.faulty import FaultyStore
from fusepkg.store.memory import MemoryStore
from tests.manifests import empty_directory_entry, in_order, manifest_of, symlink_entry


@dataclass
class Shop:
    """A bucket, versions of a package in it, and a directory to install them into."""

    tmp_path: Path
    store: FaultyStore = field(default_factory=lambda: FaultyStore(MemoryStore()))
    cache: Cache | None = None

    @property
    def directory(self) -> Path:
        return self.tmp_path / "installed"

    @property
    def data_dir(self) -> Path:
        return self.tmp_path / "data"

    @property
    def origin(self) -> DirectReader:
        return DirectReader(
            self.cache, lambda place: (self.store, place.key), lambda digest: get_chunk_list(self.store, digest)
        )

    def file(
        self,
        key: str,
        data: bytes,
        *,
        executable: bool = False,
        algorithm: Algorithm = Algorithm.SHA2_256_CHUNKED,
        chunk_list: bool = True,
    ) -> Entry:
        """An entry whose object lies in the bucket."""
        digest = compute_digest(algorithm, data)
        place = f"data/{key}~{digest.hex[:8]}"
        self.store.inner.overwrite(place, data)
        size = chunk_size(len(data))
        if chunk_list and len(data) > size and algorithm is Algorithm.SHA2_256_CHUNKED:
            pieces = [data[at : at + size] for at in range(0, len(data), size)]
            hashes = b"".join(compute_digest(Algorithm.SHA2_256, piece).value for piece in pieces)
            self.store.inner.overwrite(chunk_list_key(digest), hashes)
        meta = meta_for(EntryKind.EXECUTABLE) if executable else {}
        return Entry(key, PhysicalKey("s3", "bucket", place), len(data), digest, meta)

    def link(self, key: str, target: str) -> Entry:
        return symlink_entry(key, target)

    def empty(self, directory: str) -> Entry:
        return empty_directory_entry(directory)

    def version(self, *entries: Entry) -> Index:
        """A version of the package."""
        root = self.tmp_path / "index"
        top_hash = build_index([manifest_of(in_order(entries))], root, expected_top_hash=None, allow_file_keys=True)
        index = open_index(root, top_hash)
        assert index is not None
        return index

    def install(self, index: Index) -> InstallReport:
        return install(index, "bucket/data:v1", self.directory, self.origin, self.data_dir)

    def fetched(self) -> list[str]:
        """Objects of data fetched since the last time this was asked, without their hashes."""
        keys = [key for call, key in self.store.calls if call in ("get", "stream") and key.startswith("data/")]
        self.store.calls.clear()
        return sorted(key.removeprefix("data/").partition("~")[0] for key in keys)

    def found(self) -> dict[str, bytes | str]:
        """What the directory holds: bytes of files, targets of links, and empty directories as ``""``."""
        found: dict[str, bytes | str] = {}
        for path in sorted(self.directory.rglob("*")):
            name = str(path.relative_to(self.directory))
            if path.is_symlink():
                found[name] = f"-> {path.readlink()}"
            elif path.is_file():
                found[name] = path.read_bytes()
            elif not any(path.iterdir()):
                found[name] = ""
        return found


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def digest_of(data: bytes) -> Digest:
    return compute_digest(Algorithm.SHA2_256_CHUNKED, data)
