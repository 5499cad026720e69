"""The manifest of a version being made: the hashes it lacks, its text, its top hash.

The hash of a local file is computed, or remembered; of an object it is what the server attests, or computed from one
reading of it.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg_cache.digest import chunk_count, chunk_size, combine_chunks

from fusepkg.errors import FileChanged, UsageError
from fusepkg.model.checksums import digest_from_checksums
from fusepkg.model.entry import META_KEY, Entry, EntryKind
from fusepkg.model.links import LinkGraph
from fusepkg.model.manifest import write_directory, write_entry, write_header
from fusepkg.model.tophash import TopHash
from fusepkg.publish.draft.entry_sources import LocalFiles, RemoteObjects
from fusepkg.publish.hash.files import Hashed, hash_files
from fusepkg.publish.hash.read import file_changed
from fusepkg.state.file_identity import FileSystems
from fusepkg.work.progress import Counters, Phase, no_progress
from fusepkg.work.threads import StopFlag, run_threads

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.publish.draft.draft import Draft
    from fusepkg.state.hints import Remembered
    from fusepkg.store.opening import StoreSet
    from fusepkg.store.protocol import ObjectInfo
    from fusepkg.work.progress import ProgressCallback

ASK_THREADS = 16
"""Objects asked for their checksums at a time: latency only."""

READ_THREADS = 4
"""Objects read at a time where the server attests nothing: each holds a chunk in memory, and hashing is all CPU."""

_LINES_WRITTEN_BYTES = 1 << 20
"""Manifest lines collected before they are written."""


def build_manifest(
    draft: Draft, *, remembered: Remembered | None = None, progress: ProgressCallback = no_progress
) -> str:
    """Hash what is not hashed, and give the top hash, which the draft keeps until it changes.

    Raises: UsageError for a version without entries, ManifestInvalid for links that lead out of it, FileChanged,
    FolderUnfit, and what stores raise.
    """
    if not len(draft):
        raise UsageError(f"The new version of {draft.reference.package} has no entries", hint="Add files first")
    if hash_entries(draft, draft.tree.slots, remembered=remembered, progress=progress):
        draft.changed()
    if draft.top_hash is None:
        top_hash, links = TopHash(draft.header()), LinkGraph()
        for entry in entries_of(draft):
            top_hash.update(entry)
            if entry.kind is EntryKind.SYMLINK:
                links.add(entry.logical_key.encode(), entry.meta[META_KEY]["symlink"].encode())
        links.check()
        draft.top_hash = top_hash.hexdigest()
    return draft.top_hash


def entries_of(draft: Draft) -> Iterator[Entry]:
    """The entries in tree order; all of them have been hashed."""
    for key in draft.keys_in_order():
        found = draft.entry(key)
        assert found.digest is not None
        yield Entry(key, found.physical_key, found.size, found.digest, found.meta)


def write_manifest(draft: Draft, into: Path) -> None:
    """Write the manifest of a draft that has been built. Raises ManifestInvalid for a record that is too large."""
    with into.open("wb", buffering=_LINES_WRITTEN_BYTES) as file:
        file.write(write_header(draft.header()))
        for directory in sorted(draft.directory_meta, key=lambda key: key.split("/")):
            meta = draft.directory_meta[directory]
            if meta and draft.tree.is_directory(directory.removesuffix("/")):
                file.write(write_directory(directory, meta))
        for entry in entries_of(draft):
            file.write(write_entry(entry))


# --- hashes --------------------------------------------------------------------------------------------------


def hash_entries(
    draft: Draft, keys: Iterable[str], *, remembered: Remembered | None, progress: ProgressCallback = no_progress
) -> bool:
    """Hash those of the entries that have no hash yet, or whose file has changed; whether there were any."""
    files: list[tuple[LocalFiles, int]] = []
    objects: list[tuple[RemoteObjects, int]] = []
    file_systems = FileSystems()
    for key in keys:
        item, number = draft.tree.slots[key]
        origin = item.origin
        if isinstance(origin, LocalFiles):
            if not _is_as_hashed(origin, number, file_systems):
                files.append((origin, number))
        elif isinstance(origin, RemoteObjects) and number not in origin.hashed:
            objects.append((origin, number))
    stop = StopFlag()
    if files:
        found = hash_files(
            [origin.files[number] for origin, number in files], remembered=remembered, stop=stop, progress=progress
        )
        for (origin, number), hashed in zip(files, found, strict=True):
            origin.hashed[number] = hashed
    if objects:
        _ObjectHashing(draft, stop, remembered).run(objects, progress)
    return bool(files or objects)


def _is_as_hashed(origin: LocalFiles, number: int, file_systems: FileSystems) -> bool:
    """Whether a file has its hash still; one that has changed is scanned anew."""
    file = origin.files[number]
    if file.path is None:
        return number in origin.hashed
    try:
        status = os.stat(file.path, follow_symlinks=False)
    except OSError as exc:
        raise file_changed(file) from exc
    if not stat.S_ISREG(status.st_mode):
        raise file_changed(file)
    identity = file_systems.identity(file.path, status)
    if identity != file.identity:
        origin.files[number] = replace(file, identity=identity)
        origin.hashed.pop(number, None)
    return number in origin.hashed


class _ObjectHashing:
    """Hashes of objects in buckets: asked for, and where nobody attests them, read."""

    def __init__(self, draft: Draft, stop: StopFlag, remembered: Remembered | None) -> None:
        self._stores: StoreSet = draft.stores
        self._stop = stop
        self._remembered = remembered
        self._spool = draft.spool.directory() if draft.reference.bucket.scheme != "s3" else None

    def run(self, objects: list[tuple[RemoteObjects, int]], progress: ProgressCallback) -> None:
        total_bytes = sum(origin.objects[number][1] for origin, number in objects)
        counters = Counters(progress, Phase.HASH, total=len(objects), total_bytes=total_bytes)
        unattested: list[tuple[RemoteObjects, int]] = []

        def asked(answer: _Answer) -> None:
            origin, number = answer.of
            origin.objects[number] = answer.place, answer.size
            if answer.etag is not None:
                origin.etags[number] = answer.etag
            hashed = answer.hashed or self._recall(answer.of)
            if hashed is None:
                unattested.append(answer.of)
            else:
                origin.hashed[number] = hashed
                counters.add(1, answer.size)

        def read(answer: _Answer) -> None:
            origin, number = answer.of
            assert answer.hashed is not None
            origin.hashed[number] = answer.hashed
            if answer.copy is not None:
                origin.spooled[number] = answer.copy
            counters.add(1, answer.size)
            identity = _identity(answer.of)
            if self._remembered is not None and identity is not None:
                self._remembered.remember_object_chunk_hashes(identity, answer.chunks)

        run_threads(self._ask, objects, asked, threads=ASK_THREADS, name="fusepkg-ask", stop=self._stop)
        run_threads(self._read, unattested, read, threads=READ_THREADS, name="fusepkg-hash", stop=self._stop)

    def _recall(self, of: tuple[RemoteObjects, int]) -> Hashed | None:
        """What an earlier reading of the same bytes gave."""
        identity = _identity(of)
        if self._remembered is None or identity is None:
            return None
        chunks = self._remembered.object_chunk_hashes(identity)
        return None if chunks is None else _hashed(chunks)

    def _ask(self, of: tuple[RemoteObjects, int]) -> _Answer:
        self._stop.check()
        origin, number = of
        place, size = origin.objects[number]
        store, key = self._stores.for_key(place)
        info = store.head(key, version=place.version)
        if info.size != size:
            raise _object_changed(place)
        place = replace(place, version=info.version)
        digest = digest_from_checksums(size, info.checksums)
        if digest is None and _may_be_cut_in_chunks(info):
            digest = digest_from_checksums(size, info.checksums, store.part_bytes(key, version=info.version))
        return _Answer(of, place, size, Hashed(digest) if digest else None, etag=info.etag)

    def _read(self, of: tuple[RemoteObjects, int]) -> _Answer:
        origin, number = of
        place, size = origin.objects[number]
        store, key = self._stores.for_key(place)
        chunks = []
        done = 0
        copy = Path(tempfile.mkstemp(dir=self._spool)[1]) if self._spool else None
        with copy.open("wb") if copy else open(os.devnull, "wb") as kept:
            for piece in store.stream(key, version=place.version, piece_bytes=chunk_size(size)):
                self._stop.check()
                chunks.append(hashlib.sha256(piece).digest())
                kept.write(piece)
                done += len(piece)
        if done != size:
            raise _object_changed(place)
        return _Answer(of, place, size, _hashed(tuple(chunks)), copy, chunks=tuple(chunks))


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
    origin, number = of
    place, size = origin.objects[number]
    etag = origin.etags.get(number, "")
    return f"{place}\n{size}\n{etag}" if etag or place.version is not None else None


def _hashed(chunks: tuple[bytes, ...]) -> Hashed:
    return Hashed(combine_chunks(chunks), chunks if len(chunks) > 1 else ())


def _may_be_cut_in_chunks(info: ObjectInfo) -> bool:
    checksums = info.checksums
    return checksums is not None and checksums.sha256 is not None and checksums.parts == chunk_count(info.size) > 1


def _object_changed(place: PhysicalKey) -> FileChanged:
    return FileChanged(f"{place.readable} changed since it was added", hint="Add it again")
