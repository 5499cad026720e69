"""Where a blob lies, and what becomes of one that is missing or damaged.

Owns: looking in LMDB first and among the files next, dropping what fails its check, finding files again whose record
was lost. Must not know: which failure is a miss to the caller (``cache``).

Order of steps, which any process may be killed between: a large blob's file is published before its record is
written, and removed before its record is dropped. So a record without a file is a blob that is gone; a file
without a record is a blob that was not checked, and is hashed in full before a byte of it is given out.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import lmdb

from fusepkg_cache.errors import CacheUnusable, DigestMismatch
from fusepkg_cache.files import check_in_full, read_checked
from fusepkg_cache.records import (
    Span,
    key_of,
    record_of,
    recorded_bytes,
    seal,
    sealed_bytes,
    span_of,
    split,
    unseal,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fusepkg_cache.changes import Changes, Tables
    from fusepkg_cache.digest import Digest
    from fusepkg_cache.records import Counts, Totals
    from fusepkg_cache.session import Session

log = logging.getLogger(__name__)

_REMOVED_AT_ONCE = 1024
"""Blobs dropped in one transaction: other processes' writers wait no longer than for that."""


# --- looks: what is read inside one transaction ------------------------------------------------------------------


def _find(
    transaction: lmdb.Transaction, tables: Tables, key: bytes, offset: int, length: int | None
) -> tuple[bytes, bytes] | Span | None:
    """Sum and data of a small blob, or the blocks of a large one."""
    value = transaction.get(key, db=tables.small)
    if value is not None:
        return split(value)
    record = transaction.get(key, db=tables.large)
    return None if record is None else span_of(record, offset, length)


def _has_small(transaction: lmdb.Transaction, tables: Tables, key: bytes) -> bool:
    return transaction.get(key, db=tables.small) is not None


def _has_record(transaction: lmdb.Transaction, tables: Tables, key: bytes) -> bool:
    record = transaction.get(key, db=tables.large)
    return record is not None and span_of(record, 0, 0) is not None


def counted(transaction: lmdb.Transaction, tables: Tables) -> tuple[Totals, Counts, tuple[int, int], int]:
    """The totals, the counts, the number of small and of large blobs, and when all files were last counted."""
    return (
        tables.totals_in(transaction),
        tables.counts_in(transaction),
        tables.blobs_in(transaction),
        tables.walked_in(transaction),
    )


def sizes(transaction: lmdb.Transaction, tables: Tables, keys: list[bytes]) -> list[int | None]:
    """The sizes of blobs, None for those that are not kept."""
    found: list[int | None] = []
    for key in keys:
        small = transaction.get(key, db=tables.small)
        large = transaction.get(key, db=tables.large) if small is None else None
        found.append(sealed_bytes(small) if small is not None else None if large is None else recorded_bytes(large))
    return found


# --- reading -----------------------------------------------------------------------------------------------------


def has(session: Session, digest: Digest) -> bool:
    """Whether a blob is kept, where all processes look."""
    session.environment.refresh()
    return session.environment.view(_has_small, key_of(digest)) or session.blobs.size(digest) is not None


def read(session: Session, digest: Digest, offset: int, length: int | None, *, is_use: bool = True) -> bytes | None:
    """Part of a blob, to its end for a length of None; None where it is not kept, or was found damaged.

    Unless it ``is_use``, the read is neither noted nor counted.
    """
    environment, key = session.environment, key_of(digest)
    found = environment.view(_find, key, offset, length)
    if found is None and environment.refresh():
        found = environment.view(_find, key, offset, length)
    if isinstance(found, tuple):
        total, data = found
        if not unseal(digest, total, data):
            session.commits.change(lambda changes: drop_damaged_small(changes, digest))
            return None
        if is_use:
            session.recency.note_small(key)
        return data if length is None else data[offset : offset + length]
    descriptor = session.blobs.open(digest)
    if descriptor is None:
        if found is not None:
            session.commits.change(lambda changes: drop_record_of_missing(changes, session, digest))
        return None
    try:
        part = _read_file(session, digest, descriptor, found, offset, length)
    finally:
        os.close(descriptor)
    if part is not None and is_use:
        session.recency.note_large(key)
    return part


def _read_file(
    session: Session, digest: Digest, descriptor: int, span: Span | None, offset: int, length: int | None
) -> bytes | None:
    data = None if span is None else read_checked(descriptor, digest, span)
    if span is None or data is None:  # no record, or one of file and record is damaged: only the hash can tell
        record = check_in_full(descriptor, digest)
        if record is None:
            drop_damaged_file(session, digest, descriptor)
            return None
        with suppress(OSError, lmdb.Error, CacheUnusable):  # a full disk, say: the bytes are right all the same
            session.commits.change(lambda changes: changes.put_record(key_of(digest), record))
        span = span_of(record, offset, length)
        data = None if span is None else read_checked(descriptor, digest, span)
        if span is None or data is None:  # changed between the two reads
            return None
    skip = min(offset, span.blob_bytes) - span.start
    wanted = len(data) - skip if length is None else min(length, len(data) - skip)
    return data if skip == 0 and wanted == len(data) else data[skip : skip + wanted]


# --- dropping ----------------------------------------------------------------------------------------------------


def drop_damaged_small(changes: Changes, digest: Digest) -> None:
    """Drop a small blob if it is damaged indeed, and count it."""
    key = key_of(digest)
    value = changes.small(key)
    if value is not None and not unseal(digest, *split(value)):  # else another thread or process was first
        log.warning("the cached bytes of %s were damaged: dropped", digest)
        changes.drop_damaged(key)


def drop_damaged_file(session: Session, digest: Digest, descriptor: int) -> None:
    """Drop a large blob whose opened file was found damaged, and count it."""
    if session.blobs.remove_opened(digest, descriptor):
        log.warning("the cached file of %s was damaged: dropped", digest)
        session.commits.change(lambda changes: changes.drop_damaged(key_of(digest)))


def drop_record_of_missing(changes: Changes, session: Session, digest: Digest) -> None:
    """Drop the record of a large blob, unless its file has come back."""
    if session.blobs.size(digest) is None:
        changes.drop_record(key_of(digest))


def remove(session: Session, digests: Iterable[Digest]) -> list[int]:
    """Drop blobs; the sizes of those that were kept."""
    sizes: list[int] = []
    rest = iter(digests)
    while some := list(islice(rest, _REMOVED_AT_ONCE)):
        sizes += [size for digest in some if (size := session.blobs.remove(digest)) is not None]
        sizes += session.commits.change(partial(_drop_keys, keys=[key_of(digest) for digest in some]))
    return sizes


def _drop_keys(changes: Changes, keys: list[bytes]) -> list[int]:
    sizes = []
    for key in keys:
        changes.drop_record(key)
        size = changes.drop_small(key)
        if size is not None:
            sizes.append(size)
    return sizes


# --- writing -----------------------------------------------------------------------------------------------------


def put_small(session: Session, digest: Digest, data: bytes) -> None:
    """Keep a blob in LMDB. Raises BlobTooLarge."""
    session.bound.require_room(len(data))
    key = key_of(digest)
    session.environment.refresh()  # being there in one that was replaced would be of no use to others
    if session.environment.view(_has_small, key):
        return
    value = seal(digest, data)
    session.commits.change(lambda changes: changes.put_small(key, value), len(value))


def put_pieces(session: Session, digest: Digest, pieces: Iterable[bytes]) -> None:
    """Keep a blob of any size as a file; its bytes are checked as they lie there, before anyone can see them.

    Raises: DigestMismatch, BlobTooLarge.
    """
    path = session.staging.write(_fitting(session, pieces))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            record = check_in_full(descriptor, digest)
        finally:
            os.close(descriptor)
        if record is None:
            raise DigestMismatch(f"{path.stat().st_size} bytes given as {digest} hash to something else")
        session.blobs.publish(path, digest)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    session.commits.change(lambda changes: changes.put_record(key_of(digest), record))


def _fitting(session: Session, pieces: Iterable[bytes]) -> Iterator[bytes]:
    there_are = 0
    for piece in pieces:
        there_are += len(piece)
        session.bound.require_room(there_are)
        yield piece


def put_large(session: Session, digest: Digest, data: bytes) -> None:
    """Keep a blob as a file. Raises BlobTooLarge."""
    session.bound.require_room(len(data))
    key = key_of(digest)
    there = session.blobs.size(digest) == len(data)
    if not there:
        session.blobs.publish(session.staging.write((data,)), digest)
    if not (there and session.environment.view(_has_record, key)):
        record = record_of(digest, data)
        session.commits.change(lambda changes: changes.put_record(key, record))
