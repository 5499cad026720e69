"""Hashes of objects in buckets: what their servers attest, or computed from one reading."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg_cache.digest import chunk_count

from fusepkg.fetch.unhashed import object_changed, read_unhashed
from fusepkg.model.checksums import digest_from_checksums
from fusepkg.publish.hash.files import hashed_of
from fusepkg.publish.hashes import Hashed
from fusepkg.work.progress import Phase, PhaseCounters
from fusepkg.work.threads import StopFlag, run_threads

if TYPE_CHECKING:
    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.publish.draft.entry_sources import RemoteObjects
    from fusepkg.state.hints import Hints
    from fusepkg.store.opening import StoreSet
    from fusepkg.store.protocol import ObjectInfo
    from fusepkg.work.progress import ProgressCallback

ASK_THREADS = 16
"""Objects asked for their checksums at a time: latency only."""

READ_THREADS = 4
"""Objects read at a time where the server attests nothing: each holds a chunk in memory, and hashing is all CPU."""


def hash_objects(
    objects: list[tuple[RemoteObjects, int]],
    stores: StoreSet,
    temporary: Path | None,
    *,
    hints: Hints | None,
    stop: StopFlag,
    progress: ProgressCallback,
) -> None:
    """Learn the hash of each object, and its version; what had to be read is kept below ``temporary``, if given.

    Raises: FileChanged for an object of another size or ETag than it was added with, and what stores raise.
    """
    _ObjectHashing(stores, temporary, hints, stop).run(objects, progress)


class _ObjectHashing:
    def __init__(self, stores: StoreSet, temporary: Path | None, hints: Hints | None, stop: StopFlag) -> None:
        self._stores = stores
        self._stop = stop
        self._hints = hints
        self._temporary = temporary

    def run(self, objects: list[tuple[RemoteObjects, int]], progress: ProgressCallback) -> None:
        total_bytes = sum(source.objects[number][1] for source, number in objects)
        counters = PhaseCounters(progress, Phase.HASH, total=len(objects), total_bytes=total_bytes)
        unattested: list[tuple[RemoteObjects, int]] = []

        def asked(answer: _Answer) -> None:
            source, number = answer.of
            source.objects[number] = answer.place, answer.size
            if answer.etag is not None:
                source.etags[number] = answer.etag
            hashed = answer.hashed or self._recall(answer.of)
            if hashed is None:
                unattested.append(answer.of)
            else:
                source.hashes.put(number, hashed)
                counters.add(1, answer.size)

        def read(answer: _Answer) -> None:
            source, number = answer.of
            assert answer.hashed is not None
            source.hashes.put(number, answer.hashed)
            if answer.copy is not None:
                source.temporary[number] = answer.copy
            counters.add(1, answer.size)
            identity = _identity(answer.of)
            if self._hints is not None and identity is not None:
                self._hints.remember_object_chunk_hashes(identity, answer.chunks)

        run_threads(self._ask, objects, asked, threads=ASK_THREADS, name="fusepkg-ask", stop=self._stop)
        run_threads(self._read, unattested, read, threads=READ_THREADS, name="fusepkg-hash", stop=self._stop)

    def _recall(self, of: tuple[RemoteObjects, int]) -> Hashed | None:
        """What an earlier reading of the same bytes gave."""
        identity = _identity(of)
        if self._hints is None or identity is None:
            return None
        chunks = self._hints.object_chunk_hashes(identity)
        return None if chunks is None else hashed_of(chunks)

    def _ask(self, of: tuple[RemoteObjects, int]) -> _Answer:
        self._stop.check()
        source, number = of
        place, size = source.objects[number]
        store, key = self._stores.for_key(place)
        info = store.head(key, version=place.version)
        if info.size != size or source.etags.get(number, info.etag) != info.etag:
            raise object_changed(place)
        place = replace(place, version=info.version)
        digest = digest_from_checksums(size, info.checksums)
        if digest is None and _may_be_cut_in_chunks(info):
            digest = digest_from_checksums(size, info.checksums, store.part_bytes(key, version=info.version))
        return _Answer(of, place, size, Hashed(digest) if digest else None, etag=info.etag)

    def _read(self, of: tuple[RemoteObjects, int]) -> _Answer:
        source, number = of
        place, size = source.objects[number]
        copy = Path(tempfile.mkstemp(dir=self._temporary)[1]) if self._temporary else None
        with copy.open("wb") if copy else nullcontext() as kept:
            chunks = read_unhashed(place, size, self._stores.for_key, kept, self._stop.check)
        return _Answer(of, place, size, hashed_of(chunks), copy, chunks=chunks)


@dataclass(frozen=True, slots=True)
class _Answer:
    of: tuple[RemoteObjects, int]
    place: PhysicalKey
    size: int
    hashed: Hashed | None
    copy: Path | None = None
    etag: str | None = None
    chunks: tuple[bytes, ...] = ()


def _identity(of: tuple[RemoteObjects, int]) -> str | None:
    """A text that names these bytes and no others: an object's version, or its place and ETag; None without both."""
    source, number = of
    place, size = source.objects[number]
    etag = source.etags.get(number, "")
    return f"{place}\n{size}\n{etag}" if etag or place.version is not None else None


def _may_be_cut_in_chunks(info: ObjectInfo) -> bool:
    checksums = info.checksums
    return checksums is not None and checksums.sha256 is not None and checksums.parts == chunk_count(info.size) > 1
