"""Hashes of the blocks of large files of this machine, computed in parallel."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg_cache.digest import chunk_count, chunk_size

from fusepkg.model.block_hashes import block_hashes, write_list
from fusepkg.publish.hash.files import HASH_THREADS
from fusepkg.publish.hash.read import file_changed, opened_unchanged, read_into
from fusepkg.work.progress import Phase, PhaseCounters, no_progress
from fusepkg.work.threads import StopFlag, run_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fusepkg_cache.digest import Digest

    from fusepkg.publish.hashes import Hashed
    from fusepkg.publish.scanned import ScannedFile
    from fusepkg.work.progress import ProgressCallback

_READ_BYTES = 1 << 20
"""Read and hashed at a time: large enough to forget the calls, small enough for the second-level cache."""


@dataclass(frozen=True, slots=True)
class _Part:
    """The hashes of the blocks of one chunk of the file at ``index``."""

    index: int
    chunk: int
    hashes: bytes


def hash_blocks(
    files: Sequence[tuple[ScannedFile, Hashed]],
    found: Callable[[Digest, Digest, bytes], None],
    *,
    progress: ProgressCallback = no_progress,
) -> None:
    """Read files of several chunks; hand the digest, root and list of each to ``found``, in the calling thread.

    Each chunk is compared with its hash. Raises FileChanged where a file is not as it was hashed, FolderUnfit where it
    cannot be read.
    """
    parts: dict[int, list[bytes]] = {}
    counters = PhaseCounters(progress, Phase.HASH, total=len(files), total_bytes=sum(file.size for file, _ in files))
    stop = StopFlag()

    def chunks() -> Iterator[tuple[int, int]]:
        for index, (file, _) in enumerate(files):
            for chunk in range(chunk_count(file.size)):
                yield index, chunk

    def work(at: tuple[int, int]) -> _Part:
        file, hashed = files[at[0]]
        return _Part(*at, _hash_chunk(file, hashed, at[1], stop))

    def collect(part: _Part) -> None:
        file, hashed = files[part.index]
        of_file = parts.setdefault(part.index, [b""] * chunk_count(file.size))
        of_file[part.chunk] = part.hashes
        size = chunk_size(file.size)
        is_last = all(of_file)
        counters.add(int(is_last), min(size, file.size - part.chunk * size))
        if is_last:
            found(hashed.digest, *write_list(hashed.digest, file.size, parts.pop(part.index)))

    run_threads(work, chunks(), collect, threads=HASH_THREADS, name="fusepkg-blocks", stop=stop)


def _hash_chunk(file: ScannedFile, hashed: Hashed, chunk: int, stop: StopFlag) -> bytes:
    size = chunk_size(file.size)
    end = min((chunk + 1) * size, file.size)
    sha = hashlib.sha256()
    hashes = []
    with opened_unchanged(file) as descriptor:
        for offset in range(chunk * size, end, _READ_BYTES):
            stop.check()
            piece = bytearray(min(_READ_BYTES, end - offset))
            read_into(file, descriptor, memoryview(piece), offset)
            sha.update(piece)
            hashes.append(block_hashes(memoryview(piece)))
    if sha.digest() != hashed.chunks[chunk]:
        raise file_changed(file)
    return b"".join(hashes)
