"""Looking for a blob in segments and files, and dropping what is found damaged.

Order of steps, which any process may be killed between: a large blob's file is published before its entry is written,
and removed before its entry is dropped. So an entry without a file is a blob that is gone; a file without an entry
was not checked, and is hashed in full before a byte of it is given out.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from fusepkg_cache import segment_format
from fusepkg_cache.errors import CacheUnusable
from fusepkg_cache.files import check_in_full, read_checked
from fusepkg_cache.index_page import SMALL
from fusepkg_cache.records import key_of, span_of
from fusepkg_cache.segment_format import BLOCK_SUMS, HEADER_BYTES, padding, payload_sum

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fusepkg_cache.digest import Digest
    from fusepkg_cache.index_change import IndexChange
    from fusepkg_cache.index_page import IndexEntry
    from fusepkg_cache.open_directory import OpenDirectory

log = logging.getLogger(__name__)

_LOOKS = 3
"""Times a blob is looked for that is moved to another segment meanwhile: two are the rule."""

_MEND_PATIENCE_S = 0.5
"""How long a read waits for the write lock in order to drop what it found damaged."""


def has(opened: OpenDirectory, digest: Digest) -> bool:
    """Whether a blob is kept, where all processes look."""
    opened.index.refresh()
    entry = opened.index.find(key_of(digest))
    if entry is not None and entry.kind == SMALL:
        return True
    return opened.files.size(digest) is not None


def sizes(opened: OpenDirectory, digests: Sequence[Digest]) -> list[int | None]:
    """The sizes of blobs, None for those that are not kept."""
    opened.index.refresh()
    found = [opened.index.find(key_of(digest)) for digest in digests]
    return [None if entry is None else entry.length for entry in found]


def read(
    opened: OpenDirectory, digest: Digest, offset: int, length: int | None, *, is_use: bool = True, cheap: bool = False
) -> bytes | None:
    """Part of a blob, to its end for a length of None; None if it is not kept, or was found damaged.

    Unless it ``is_use``, the read is neither noted nor counted. A ``cheap`` one believes an index that lacks the blob.
    """
    key = key_of(digest)
    part = opened.remembered.read(key, offset, length)
    if part is not None:
        if is_use:
            opened.recency.note_large(key)
        return part
    before: IndexEntry | None = None
    for look in range(_LOOKS):
        entry = opened.index.find(key)
        if entry is None and not cheap and opened.index.refresh():
            entry = opened.index.find(key)
        if entry is None or entry.kind != SMALL:
            break
        data = opened.segments.read(entry, digest)
        if data is not None:
            if is_use:
                opened.recency.note_small(key)
            return data if length is None else data[offset : offset + length]
        if entry == before or look == _LOOKS - 1:
            _mend(opened, lambda change, entry=entry: drop_damaged_small(change, opened, digest, entry))
            return None
        before = entry
    if entry is None and cheap:
        return None
    part = _read_large(opened, digest, None if entry is None or entry.kind == SMALL else entry, offset, length)
    if part is not None and is_use:
        opened.recency.note_large(key)
    return part


def _read_large(
    opened: OpenDirectory, digest: Digest, entry: IndexEntry | None, offset: int, length: int | None
) -> bytes | None:
    descriptor = opened.files.open(digest)
    if descriptor is None:
        if entry is not None:
            _mend(opened, lambda change: drop_entry_of_missing(change, opened, digest))
        return None
    try:
        record = known_sums(opened, digest, entry)
        span = None if record is None else span_of(record, offset, length)
        data = None if span is None else read_checked(descriptor, digest, span)
        if span is None or data is None:  # no sums, or sums or file are damaged: only the hash can tell
            record = check_in_full(descriptor, digest)
            if record is None:
                drop_damaged_file(opened, digest, descriptor)
                return None
            with suppress(OSError, CacheUnusable):  # a full disk, say: the bytes are right all the same
                opened.index.change(lambda change: put_large(change, opened, digest, record), _MEND_PATIENCE_S)
            span = span_of(record, offset, length)
            data = None if span is None else read_checked(descriptor, digest, span)
            if span is None or data is None:  # changed between the two reads
                return None
    finally:
        os.close(descriptor)
    if record is not None:
        opened.remembered.remember(digest, key_of(digest), opened.files.path(digest), record)
    skip = min(offset, span.blob_bytes) - span.start
    wanted = len(data) - skip if length is None else min(length, len(data) - skip)
    return data if skip == 0 and wanted == len(data) else data[skip : skip + wanted]


def known_sums(opened: OpenDirectory, digest: Digest, entry: IndexEntry | None) -> bytes | None:
    """Size and block sums of a large blob, if they are known and sound."""
    if entry is None or entry.kind == SMALL or not entry.segment:
        return None
    try:
        return opened.segments.read(entry, digest)
    except OSError:
        return None


def put_large(change: IndexChange, opened: OpenDirectory, digest: Digest, record: bytes) -> None:
    """Note a file whose size and block sums are ``record``."""
    key = key_of(digest)
    head = segment_format.header(BLOCK_SUMS, key, len(record), payload_sum(digest, record))
    ((segment, offset),) = opened.segments.append(change.header, [(head, record, padding(len(record)))])
    change.put_large(key, int.from_bytes(record[:8], "little"), segment, offset)


def _mend(opened: OpenDirectory, make: object) -> None:
    """Drop what was found damaged; not now, if the disk refuses or a stopped process has the lock."""
    with suppress(OSError, CacheUnusable):
        opened.index.change(make, _MEND_PATIENCE_S)  # type: ignore[arg-type]  # any change


def drop_damaged_small(change: IndexChange, opened: OpenDirectory, digest: Digest, entry: IndexEntry) -> None:
    """Drop a small blob if it is damaged indeed, and count it."""
    if change.find(entry.key) != entry or opened.segments.read(entry, digest) is not None:
        return  # another thread or process was first
    change.drop(entry.key)
    change.header.dead_bytes += entry.length + HEADER_BYTES
    if opened.segments.exists(entry):
        log.warning("the cached bytes of %s were damaged: dropped", digest)
        change.header.verification_failures += 1
        change.afterwards(lambda: opened.segments.mark_removed(entry))


def drop_damaged_file(opened: OpenDirectory, digest: Digest, descriptor: int) -> None:
    """Drop a large blob whose opened file was found damaged, and count it."""
    if opened.files.remove_opened(digest, descriptor):
        log.warning("the cached file of %s was damaged: dropped", digest)
        _mend(opened, lambda change: _count_damaged(change, digest))


def _count_damaged(change: IndexChange, digest: Digest) -> None:
    entry = change.find(key_of(digest))
    if entry is not None and entry.kind != SMALL:
        change.drop(entry.key)
    change.header.verification_failures += 1


def drop_entry_of_missing(change: IndexChange, opened: OpenDirectory, digest: Digest) -> None:
    """Drop the entry of a large blob, unless its file has come back."""
    entry = change.find(key_of(digest))
    if entry is not None and entry.kind != SMALL and opened.files.size(digest) is None:
        change.drop(entry.key)
