"""Writes disk images, and checks those that are there."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from fusepkg_cache.digest import Hashing

from fusepkg.disk_image.metadata import data_start, image_size, metadata
from fusepkg.errors import FusepkgError, SystemFailure, UsageError
from fusepkg.index.erofs import BLOCK_BYTES
from fusepkg.work.progress import Phase, PhaseCounters, no_progress
from fusepkg.work.scratch import scratch_name
from fusepkg.work.threads import StopFlag, run_threads

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fusepkg.fetch.blocking_reader import BlockingReader
    from fusepkg.index.opening import Index
    from fusepkg.model.entry import Entry
    from fusepkg.work.progress import ProgressCallback

_BATCH_BYTES = 8 * 1024 * 1024
"""Bytes asked for at once: a chunk of a large file, or many small files. Each thread holds as much."""

_BATCH_ENTRIES = 256

_THREADS = 4
"""Batches under way at a time: while one is written, others are fetched."""


class _Part(NamedTuple):
    """``length`` bytes of ``entry`` from ``offset``, which belong at byte ``at`` of the file."""

    entry: Entry
    offset: int
    length: int
    at: int


def write_disk_image(
    index: Index, reader: BlockingReader, file: Path, *, progress: ProgressCallback = no_progress
) -> int:
    """Write a version as one file that the kernel mounts as EROFS; return its size in bytes.

    Equal versions give equal files. All bytes are verified on the way. The file appears when it is whole.

    Raises UsageError if there is a file of that name, SystemFailure if it cannot be written, UnsupportedFormat,
    RemoteError, IntegrityError.
    """
    counters = PhaseCounters(progress, Phase.DOWNLOAD, total=len(index.entries), total_bytes=index.total_bytes)
    stop = StopFlag()
    with _appearing(file) as descriptor:
        at = 0
        for piece in metadata(index):
            _write_all(descriptor, piece, at)
            at += len(piece)

        def write(batch: list[_Part]) -> tuple[int, int]:
            stop.check()
            found = reader.read_many([(part.entry, part.offset, part.length) for part in batch])
            for part, data in zip(batch, found, strict=True):
                if isinstance(data, FusepkgError):
                    raise data
                _write_all(descriptor, data, part.at)
            return sum(not part.offset for part in batch), sum(part.length for part in batch)

        batches = _batches(_parts(index))
        run_threads(write, batches, lambda done: counters.add(*done), threads=_THREADS, name="fusepkg-image", stop=stop)
        os.ftruncate(descriptor, image_size(index))  # the last file may end within a block
    return image_size(index)


def find_damage(index: Index, file: Path, *, progress: ProgressCallback = no_progress) -> list[str]:
    """Return the names of files whose bytes in a disk image are not those of the version.

    Raises UsageError if the file is no disk image of this version, or one with other names; SystemFailure.
    """
    counters = PhaseCounters(progress, Phase.CHECK, total=len(index.entries), total_bytes=index.total_bytes)
    damaged = []
    try:
        with file.open("rb") as image:
            if os.fstat(image.fileno()).st_size != image_size(index) or any(
                image.read(len(piece)) != piece for piece in metadata(index)
            ):
                raise UsageError(
                    f"{file} is not the disk image of {index.top_hash}",
                    hint="Its names differ, or it is damaged: write it again under another name",
                )
            for entry, start in _files(index):
                if not _is_right(image.fileno(), entry, data_start(index) + start):
                    damaged.append(entry.logical_key)
                counters.add(1, entry.size)
    except OSError as exc:
        raise SystemFailure(f"{file} cannot be read: {exc.strerror}") from exc
    return damaged


def _write_all(descriptor: int, data: bytes, at: int) -> None:
    """Write all of it: where room ends within it, one pwrite(2) writes less and does not say why."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, at)
        rest, at = rest[written:], at + written


def _is_right(descriptor: int, entry: Entry, at: int) -> bool:
    hashing = Hashing(entry.digest.algorithm, entry.size)
    for offset in range(0, entry.size, _BATCH_BYTES):
        hashing.update(os.pread(descriptor, min(_BATCH_BYTES, entry.size - offset), at + offset))
    return entry.digest.matches(hashing.digest())


def _files(index: Index) -> Iterator[tuple[Entry, int]]:
    """Yield each entry that has bytes in the data address space, and where they start there, in bytes."""
    entries = index.entries
    at = 0
    for number, entry in enumerate(entries):
        after = entries.start_block(number + 1) if number + 1 < len(entries) else index.data_blocks
        if after > at:
            yield entry, at * BLOCK_BYTES
        at = after


def _parts(index: Index) -> Iterator[_Part]:
    for entry, start in _files(index):
        for offset in range(0, entry.size, _BATCH_BYTES):
            length = min(_BATCH_BYTES, entry.size - offset)
            yield _Part(entry, offset, length, data_start(index) + start + offset)


def _batches(parts: Iterator[_Part]) -> Iterator[list[_Part]]:
    batch: list[_Part] = []
    size = 0
    for part in parts:
        if batch and (size + part.length > _BATCH_BYTES or len(batch) == _BATCH_ENTRIES):
            yield batch
            batch, size = [], 0
        batch.append(part)
        size += part.length
    if batch:
        yield batch


@contextmanager
def _appearing(file: Path) -> Iterator[int]:
    """Yield a descriptor of a new file that gets its name after the block, or is gone."""
    if os.path.lexists(file):
        raise UsageError(f"there is a file {file} already", hint="Name another one, or remove it first")
    hidden = file.with_name(scratch_name(f".{file.name}."))
    try:
        descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise SystemFailure(f"{file} cannot be written: {exc.strerror}") from exc
    try:
        yield descriptor
        os.fsync(descriptor)
        hidden.rename(file)
    except OSError as exc:
        hint = "Free some space, or name another place"
        raise SystemFailure(f"{file} cannot be written: {exc.strerror}", hint=hint) from exc
    finally:
        os.close(descriptor)
        with suppress(OSError):
            hidden.unlink()
