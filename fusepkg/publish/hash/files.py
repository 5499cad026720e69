"""Hashes of files of this machine, computed in parallel, or known from an earlier run (hints).

hashlib and preadv release the interpreter lock, so threads use every core; a large file's chunks are independent and
spread over all threads too.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg_cache.digest import chunk_count, chunk_size, combine_chunks

from fusepkg.publish.hash.read import opened_unchanged, read_into, read_whole
from fusepkg.publish.hashes import Hashed
from fusepkg.work.progress import Phase, PhaseCounters, no_progress
from fusepkg.work.threads import StopFlag, run_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fusepkg.publish.scanned import ScannedFile
    from fusepkg.state.file_identity import FileIdentity
    from fusepkg.state.hints import Hints
    from fusepkg.work.progress import ProgressCallback

HASH_THREADS = max(2, os.cpu_count() or 2)
"""One per core: SHA-256 is all CPU; two at least, so that one can wait for the disk."""

_READ_BYTES = 1 << 20
"""Read and hashed at a time: large enough to forget the calls, small enough for the second-level cache."""

_BATCH_FILES = 64
_BATCH_BYTES = 8 << 20
"""Small files of one piece of work: a thread's hand-over costs as much as hashing 20 KB."""

_SPAN_BYTES = 64 << 20
"""One piece of work of a large file, at least one chunk: a second or less at any disk's speed."""

_LOOKUP_FILES = 1_000
"""Files asked of the remembered digests at a time; also how many are written at a time."""


@dataclass(frozen=True, slots=True)
class _Span:
    """Chunks ``first`` to ``first + count`` of the file at ``index``."""

    index: int
    file: ScannedFile
    first: int
    count: int


def hash_files(
    files: Sequence[ScannedFile],
    found: Callable[[int, Hashed], None],
    *,
    total_bytes: int | None = None,
    hints: Hints | None = None,
    stop: StopFlag | None = None,
    progress: ProgressCallback = no_progress,
) -> None:
    """Hash every file, and hand each hash to ``found``, with the file's number, in the calling thread as they come.

    Each file is looked up once, when it is its turn; ``total_bytes`` are those of all, added up if not given.

    Raises: FileChanged where a file is not as it was scanned, FolderUnfit where it cannot be read.
    """
    if total_bytes is None:
        total_bytes = sum(file.size for file in files)
    counters = PhaseCounters(progress, Phase.HASH, total=len(files), total_bytes=total_bytes)
    _Hashing(files, found, hints, stop or StopFlag(), counters).run()


def hash_bytes(data: bytes) -> Hashed:
    """The same for bytes in memory."""
    size = chunk_size(len(data))
    view = memoryview(data)
    return hashed_of(tuple(hashlib.sha256(view[at : at + size]).digest() for at in range(0, len(view), size)))


class _Hashing:
    """One run; everything but ``_work`` happens in the calling thread."""

    def __init__(
        self,
        files: Sequence[ScannedFile],
        found: Callable[[int, Hashed], None],
        hints: Hints | None,
        stop: StopFlag,
        counters: PhaseCounters,
    ) -> None:
        self._files = files
        self._found = found
        self._hints = hints
        self._stop = stop
        self._started_ns = time.time_ns()
        self._partial: dict[int, list[bytes]] = {}
        self._missing: dict[int, int] = {}
        self._new: dict[FileIdentity, tuple[bytes, ...]] = {}
        self._counters = counters

    def run(self) -> None:
        try:
            run_threads(
                self._work,
                self._pieces(),
                self._collect,
                threads=HASH_THREADS,
                name="fusepkg-hash",
                stop=self._stop,
            )
        finally:
            self._remember()  # what was hashed before an interrupt need not be hashed again

    def _pieces(self) -> Iterator[list[_Span]]:
        """Work in tree order, small files together, large ones apart; what is remembered is no work."""
        batch: list[_Span] = []
        batch_bytes = 0
        for index, file in self._unknown():
            chunks = chunk_count(file.size)
            if file.size > _BATCH_BYTES:
                per_span = max(1, _SPAN_BYTES // chunk_size(file.size))
                self._partial[index] = [b""] * chunks
                self._missing[index] = chunks
                for first in range(0, chunks, per_span):
                    yield [_Span(index, file, first, min(per_span, chunks - first))]
                continue
            batch.append(_Span(index, file, 0, chunks))
            batch_bytes += file.size
            if len(batch) >= _BATCH_FILES or batch_bytes >= _BATCH_BYTES:
                yield batch
                batch, batch_bytes = [], 0
        if batch:
            yield batch

    def _unknown(self) -> Iterator[tuple[int, ScannedFile]]:
        for at in range(0, len(self._files), _LOOKUP_FILES):
            files = self._files[at : at + _LOOKUP_FILES]
            known: dict[FileIdentity, tuple[bytes, ...]] = {}
            if self._hints is not None:
                known = self._hints.chunk_hashes([file.identity for file in files if file.path is not None])
            for index, file in enumerate(files, at):
                if self._hints is not None and file.path is not None:
                    mounted = self._hints.find_mounted(file.identity)
                    if mounted is not None:
                        self._found(index, Hashed(*mounted))
                        self._counters.add(1, file.size)
                        continue
                chunks = known.get(file.identity) if file.path is not None else None
                if chunks is not None and len(chunks) == chunk_count(file.size):
                    self._finish(index, chunks, file.size)
                else:
                    yield index, file

    def _work(self, piece: list[_Span]) -> list[tuple[_Span, list[bytes]]]:
        buffer = memoryview(bytearray(_READ_BYTES))
        return [(span, self._hash_span(span.file, span, buffer)) for span in piece]

    def _hash_span(self, file: ScannedFile, span: _Span, buffer: memoryview) -> list[bytes]:
        if file.path is None:
            return [hashlib.sha256(read_whole(file)).digest() for _ in range(span.count)]
        size = chunk_size(file.size)
        hashes = []
        with opened_unchanged(file) as descriptor:
            for chunk in range(span.first, span.first + span.count):
                sha = hashlib.sha256()
                end = min((chunk + 1) * size, file.size)
                for offset in range(chunk * size, end, _READ_BYTES):
                    self._stop.check()
                    piece = buffer[: min(_READ_BYTES, end - offset)]
                    read_into(file, descriptor, piece, offset)
                    sha.update(piece)
                hashes.append(sha.digest())
        return hashes

    def _collect(self, piece: list[tuple[_Span, list[bytes]]]) -> None:
        for span, hashes in piece:
            self._collect_span(span, hashes)

    def _collect_span(self, span: _Span, hashes: list[bytes]) -> None:
        file = span.file
        if span.index not in self._partial:
            self._note(file, tuple(hashes))
            self._finish(span.index, tuple(hashes), file.size)
            return
        partial = self._partial[span.index]
        partial[span.first : span.first + span.count] = hashes
        self._missing[span.index] -= span.count
        size = chunk_size(file.size)
        span_bytes = min((span.first + span.count) * size, file.size) - span.first * size
        if self._missing[span.index]:
            self._counters.add(0, span_bytes)
            return
        del self._partial[span.index]
        self._note(file, tuple(partial))
        self._finish(span.index, tuple(partial), span_bytes)

    def _finish(self, index: int, chunks: tuple[bytes, ...], new_bytes: int) -> None:
        self._found(index, hashed_of(chunks))
        self._counters.add(1, new_bytes)

    def _note(self, file: ScannedFile, chunks: tuple[bytes, ...]) -> None:
        if self._hints is not None and file.path is not None:
            self._new[file.identity] = chunks
            if len(self._new) >= _LOOKUP_FILES:
                self._remember()

    def _remember(self) -> None:
        if self._hints is not None and self._new:
            self._hints.remember_chunk_hashes(self._new, read_at_ns=self._started_ns)
            self._new = {}


def hashed_of(chunks: tuple[bytes, ...]) -> Hashed:
    """Return the hash of a blob with these chunks, of which each is given by its raw SHA-256."""
    return Hashed(combine_chunks(chunks), chunks if len(chunks) > 1 else ())
