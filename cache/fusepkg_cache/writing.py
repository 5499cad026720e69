"""Keeping blobs: small ones in the newest segment, large ones as files; and removing them."""

from __future__ import annotations

import os
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from fusepkg_cache.errors import WrongBytes
from fusepkg_cache.eviction import drop
from fusepkg_cache.files import check_in_full
from fusepkg_cache.index_page import SMALL
from fusepkg_cache.reading import known_sums, put_large
from fusepkg_cache.records import key_of, record_of
from fusepkg_cache.segment_format import blob_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fusepkg_cache.digest import Digest
    from fusepkg_cache.index_change import IndexChange
    from fusepkg_cache.open_directory import OpenDirectory

_AT_ONCE = 1024
"""Blobs kept or dropped in one change: other processes' changes wait no longer than for that."""

_BYTES_AT_ONCE = 16 * 1024 * 1024
"""Bytes of blobs kept in one change."""


def keep_small(opened: OpenDirectory, blobs: Sequence[tuple[Digest, bytes]]) -> None:
    """Keep small blobs, with one append and one change of the index. Raises BlobTooLarge, CacheUnusable, OSError."""
    for _, data in blobs:
        opened.bound.require_room(len(data))
    records = [(key, blob_record(digest, key, data)) for digest, data in blobs for key in (key_of(digest),)]
    for some in _batches(records):
        if opened.index.change(partial(_put_records, opened=opened, records=some)):
            opened.upkeep.wake()


def _batches(
    records: list[tuple[bytes, tuple[bytes, bytes, bytes]]],
) -> Iterator[list[tuple[bytes, tuple[bytes, bytes, bytes]]]]:
    batch: list[tuple[bytes, tuple[bytes, bytes, bytes]]] = []
    weight = 0
    for record in records:
        batch.append(record)
        weight += len(record[1][1])
        if len(batch) >= _AT_ONCE or weight >= _BYTES_AT_ONCE:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch


def _put_records(
    change: IndexChange, opened: OpenDirectory, records: list[tuple[bytes, tuple[bytes, bytes, bytes]]]
) -> bool:
    fresh = {key: record for key, record in records if change.find(key) is None}
    places = opened.segments.append(change.header, list(fresh.values())) if fresh else []
    for (key, record), (segment, offset) in zip(fresh.items(), places, strict=True):
        change.put_small(key, segment, offset, len(record[1]))
    return opened.bound.settle(change)


def is_kept_small(opened: OpenDirectory, digest: Digest) -> bool:
    """Whether a small blob is in the index that all processes use."""
    opened.index.refresh()
    entry = opened.index.find(key_of(digest))
    return entry is not None and (entry.kind == SMALL or opened.files.size(digest) == entry.length)


def keep_pieces(opened: OpenDirectory, digest: Digest, pieces: Iterable[bytes]) -> None:
    """Keep a blob of any size as a file; its bytes are checked as they lie there, before anyone can see them.

    Raises: WrongBytes, BlobTooLarge.
    """
    path = opened.unfinished.write(_fitting(opened, pieces))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            record = check_in_full(descriptor, digest)
        finally:
            os.close(descriptor)
        if record is None:
            raise WrongBytes(f"{path.stat().st_size} bytes given as {digest} hash to something else")
        opened.files.publish(path, digest)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    _note_files(opened, [(digest, record)])


def _fitting(opened: OpenDirectory, pieces: Iterable[bytes]) -> Iterator[bytes]:
    there_are = 0
    for piece in pieces:
        there_are += len(piece)
        opened.bound.require_room(there_are)
        yield piece


def keep_large(opened: OpenDirectory, blobs: Sequence[tuple[Digest, bytes]]) -> None:
    """Keep blobs as files, with one change of the index. Raises BlobTooLarge, CacheUnusable, OSError."""
    noted: list[tuple[Digest, bytes]] = []
    for digest, data in blobs:
        opened.bound.require_room(len(data))
        there = opened.files.size(digest) == len(data)
        if not there:
            opened.files.publish(opened.unfinished.write((data,)), digest)
        if not there or known_sums(opened, digest, opened.index.find(key_of(digest))) is None:
            noted.append((digest, record_of(digest, data)))
    if noted:
        _note_files(opened, noted)


def _note_files(opened: OpenDirectory, noted: list[tuple[Digest, bytes]]) -> None:
    def make(change: IndexChange) -> bool:
        for digest, record in noted:
            put_large(change, opened, digest, record)
        return opened.bound.settle(change)

    if opened.index.change(make):
        opened.upkeep.wake()


def remove(opened: OpenDirectory, digests: Iterable[Digest]) -> list[int]:
    """Drop blobs; the sizes of those that were kept."""
    sizes: list[int] = []
    rest = iter(digests)
    while some := list(islice(rest, _AT_ONCE)):
        sizes += opened.index.change(partial(_drop_all, opened=opened, digests=some))
    return sizes


def _drop_all(change: IndexChange, opened: OpenDirectory, digests: list[Digest]) -> list[int]:
    sizes = []
    for digest in digests:
        entry = change.find(key_of(digest))
        dropped = None if entry is None else drop(change, opened.segments, opened.files, entry)
        size = opened.files.remove(digest)  # also one that was not counted yet
        if dropped is not None or size is not None:
            sizes.append(size if dropped is None else dropped)
    return [size for size in sizes if size is not None]
