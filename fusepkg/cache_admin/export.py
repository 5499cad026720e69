"""Write a version's blobs as plain files, for use as a lower cache.

A blob of several chunks is written as its chunks and the chunk list, as a cache keeps it, so that a part can be read
alone over a network. One that is named by another kind of hash is written whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg_cache.digest import DIGEST_BYTES, chunk_count, chunk_digest, chunk_size

from fusepkg.fetch.chunks import is_chunked
from fusepkg.model.cache_names import cache_name, list_digest
from fusepkg.work.threads import StopFlag, run_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fusepkg_cache import PlainFiles
    from fusepkg_cache.digest import Digest

    from fusepkg.fetch.blocking_reader import BlockingReader
    from fusepkg.index.opening import Index
    from fusepkg.model.entry import Entry

_THREADS = 8
"""Entries written at a time: enough to hide round trips, and each may hold a chunk."""


@dataclass(frozen=True, slots=True)
class Exported:
    """Files written, and their bytes; the others were there already."""

    files: int
    bytes: int


def export_version(
    index: Index, reader: BlockingReader, files: PlainFiles, progress: Callable[[int, int], None]
) -> Exported:
    """Write every blob of a version that is not there yet; ``progress`` hears the bytes that are done, of all.

    Raises RemoteError, IntegrityError, CacheUnusable.
    """
    stop = StopFlag()
    done = 0
    written: list[int] = []

    def export(entry: Entry) -> tuple[int, list[int]]:
        return entry.size, _export(entry, reader, files, stop)

    def collect(exported: tuple[int, list[int]]) -> None:
        nonlocal done
        size, sizes = exported
        written.extend(sizes)
        done += size
        progress(done, index.total_bytes)

    run_threads(export, index.entries, collect, threads=_THREADS, name="fusepkg-export", stop=stop)
    return Exported(len(written), sum(written))


def _export(entry: Entry, reader: BlockingReader, files: PlainFiles, stop: StopFlag) -> list[int]:
    """The sizes of the files that were written for one entry."""
    list_name = list_digest(entry) if is_chunked(entry) else None
    if list_name is not None:
        return _export_chunks(entry, list_name, reader, files, stop)
    name = cache_name(entry)
    if not entry.size or files.has(name, entry.size):
        return []
    files.put(name, _pieces(entry, reader, stop), size=entry.size)
    return [entry.size]


def _export_chunks(
    entry: Entry, list_name: Digest, reader: BlockingReader, files: PlainFiles, stop: StopFlag
) -> list[int]:
    """The list is written last, so where it is, the chunks are."""
    if files.has(list_name, chunk_count(entry.size) * DIGEST_BYTES):
        return []
    sizes: list[int] = []
    chunks: list[bytes] = []
    for piece in _pieces(entry, reader, stop):
        digest = chunk_digest(piece)
        chunks.append(digest.value)
        if not files.has(digest, len(piece)):
            files.put(digest, [piece], size=len(piece))
            sizes.append(len(piece))
    chunk_list = b"".join(chunks)
    files.put(list_name, [chunk_list], size=len(chunk_list))
    return [*sizes, len(chunk_list)]


def _pieces(entry: Entry, reader: BlockingReader, stop: StopFlag) -> Iterator[bytes]:
    size = chunk_size(entry.size)
    for at in range(0, entry.size, size):
        stop.check()
        yield reader.read(entry, at, size)
