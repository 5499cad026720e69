"""Verified bytes of objects, from the bucket.

Owns: ranges, comparing what came with its digest, asking again for wrong bytes, and what is counted and logged of a
failure. Must not know: caches, who asks.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

import trio
from fusepkg_cache.digest import chunk_size, compute_digest
from fusepkg_cache.errors import DigestMismatch as WrongBytes

from fusepkg.errors import DigestMismatch, FusepkgError
from fusepkg.fetch.wrong_bytes import MISMATCH_TRIES, mismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fusepkg_cache.digest import Digest

    from fusepkg.fetch.counters import Counters
    from fusepkg.model.entry import Entry
    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.store.protocol import ObjectStore

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Bucket:
    """The stores behind entries, asked in at most ``threads`` threads at a time."""

    def __init__(
        self, store_for: Callable[[PhysicalKey], tuple[ObjectStore, str]], counters: Counters, threads: int
    ) -> None:
        self._store_for = store_for
        self._counters = counters
        self._threads = trio.CapacityLimiter(threads)

    async def get(self, entry: Entry, offset: int, length: int, expected: Digest) -> bytes:
        """Part of an entry's object, which must be the bytes that ``expected`` names.

        Raises: RemoteError, DigestMismatch.
        """
        store, key = self._store_for(entry.physical_key)
        version = entry.physical_key.version

        def get() -> bytes:
            # A range, for whole blobs too: an object that somebody replaced by a huge one must not fill the memory. One
            # byte more than the blob has tells such an object from the right one.
            for attempt in range(1, MISMATCH_TRIES + 1):
                data = store.get(key, version=version, offset=offset, length=length + (length == entry.size))
                if len(data) == length and expected.matches(compute_digest(expected.algorithm, data)):
                    return data
                if attempt < MISMATCH_TRIES:
                    log.warning("%s: wrong bytes from %s, fetching again", entry.logical_key, entry.physical_key)
            raise mismatch(entry)

        data = await self.run(entry, get)
        self._counters.fetched_objects += 1
        self._counters.fetched_bytes += len(data)
        return data

    async def give(self, entry: Entry, taken_by: Callable[[Iterator[bytes]], _T]) -> _T:
        """What ``taken_by`` makes of a whole object, in pieces, which it checks.

        Raises: RemoteError, DigestMismatch, and what ``taken_by`` raises.
        """
        store, key = self._store_for(entry.physical_key)
        pieces = store.stream(key, version=entry.physical_key.version, piece_bytes=chunk_size(entry.size))

        def take() -> _T:
            try:
                return taken_by(_no_more_than(entry, pieces))
            except WrongBytes as exc:
                raise mismatch(entry) from exc

        taken = await self.run(entry, take)
        self._counters.fetched_objects += 1
        self._counters.fetched_bytes += entry.size
        return taken

    async def run(self, entry: Entry, call: Callable[[], _T]) -> _T:
        """Run a fetch in a thread; a failure is counted, and logged once with the names of entry and object.

        A mount that ends does not wait for a bucket that does not answer: the thread is left to its timeout.
        """
        try:
            return await trio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._threads)
        except FusepkgError as exc:
            self.failed(entry, exc)
            raise

    def failed(self, entry: Entry, exc: FusepkgError) -> None:
        """Count and log a failure."""
        self._counters.failed_fetches += 1
        self._counters.digest_mismatches += isinstance(exc, DigestMismatch)
        log.error("cannot read %s (%s): %s", entry.logical_key, entry.physical_key, exc)


def _no_more_than(entry: Entry, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces, as long as they are no more than the entry has: a huge object must not fill the disk."""
    room = entry.size
    for piece in pieces:
        room -= len(piece)
        if room < 0:
            raise mismatch(entry)
        yield piece
    if room:
        raise mismatch(entry)
