"""Verified bytes on their way into files: from the cache, from packs, from objects. For many threads.

Nothing is put into the cache: what is installed lies in files, and need not be written twice.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fusepkg_cache.digest import Hashing, chunk_count, chunk_size, combine_chunks

from fusepkg.errors import AccessDenied, DigestMismatch, ObjectMissing
from fusepkg.fetch.chunks import nth_digest
from fusepkg.fetch.pack_reader import PackReader
from fusepkg.fetch.verified import expected_object, get_range, mismatch
from fusepkg.model.cache_names import cache_name, list_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fusepkg_cache import Cache
    from fusepkg_cache.digest import Digest

    from fusepkg.fetch.packs import VersionPacks
    from fusepkg.index.opening import Index
    from fusepkg.model.entry import Entry
    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.store.protocol import ObjectStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DirectReader:
    """Reads entries. ``cache`` is None where there is none to ask; ``chunk_list`` asks the registry.

    ``note_damaged`` hears of objects that are missing or wrong; ``elsewhere`` may say where the bytes of one lie now.
    ``find_packs`` gives the packs of a version, unasked; None: objects are read.
    """

    cache: Cache | None
    store_for: Callable[[PhysicalKey], tuple[ObjectStore, str]]
    chunk_list: Callable[[Digest], list[bytes]]
    note_damaged: Callable[[PhysicalKey], None] = lambda _: None
    elsewhere: Callable[[Entry], PhysicalKey | None] = lambda _: None
    find_packs: Callable[[Index], VersionPacks] | None = None

    def open_packs(self, index: Index) -> PackReader | None:
        """Ask for the packs of a version; None if it has none that can be used."""
        packs = None if self.find_packs is None else self.find_packs(index)
        if packs is None or not packs.is_unasked:  # too few small files to look for them
            return None
        packs.load_table_now()
        return PackReader(packs, self.store_for) if packs.has_packs else None

    def cached(self, entry: Entry) -> bytes | None:
        """Return a blob of one chunk if the cache has it."""
        return self.cache.get(cache_name(entry)) if self.cache is not None and entry.size else None

    def whole(self, entry: Entry) -> bytes:
        """Return a blob of one chunk. Raises RemoteError, DigestMismatch."""
        if not entry.size:
            return b""
        data = self.cached(entry)
        return self._fetch(entry, 0, entry.size, entry.digest) if data is None else data

    def chunks(self, entry: Entry) -> list[Digest] | None:
        """Return the names of a larger blob's chunks; None if unknown: then only the whole can be checked.

        Raises RemoteError.
        """
        name = list_digest(entry)
        if name is None:
            return None
        count = chunk_count(entry.size)
        raw = self.cache.get(name) if self.cache is not None else None
        if raw is None:
            try:
                raw = b"".join(self.chunk_list(entry.digest))
            except (ObjectMissing, AccessDenied, DigestMismatch) as exc:
                log.info("%s has no usable chunk list: %s", entry.logical_key, exc.message)
                return None
        digests = [nth_digest(raw, index) for index in range(len(raw) // len(entry.digest.value))]
        if len(digests) != count or combine_chunks([digest.value for digest in digests]) != entry.digest:
            return None
        return digests

    def chunk(self, entry: Entry, index: int, expected: Digest | None) -> bytes:
        """Return one chunk of a larger blob; if its hash is unknown, the caller checks the whole.

        Raises RemoteError, DigestMismatch.
        """
        size = chunk_size(entry.size)
        offset, length = index * size, min(size, entry.size - index * size)
        if self.cache is not None:
            data = self.cache.get(expected) if expected is not None else None
            data = self.cache.read(cache_name(entry), offset, length) if data is None else data
            if data is not None and len(data) == length:
                return data
        return self._fetch(entry, offset, length, expected)

    def pieces(self, entry: Entry) -> Iterator[bytes]:
        """Yield the pieces of a larger blob that can only be checked as a whole.

        Raises RemoteError, and DigestMismatch after the last piece.
        """
        hashing = Hashing(entry.digest.algorithm, entry.size)
        for index in range(chunk_count(entry.size)):
            piece = self.chunk(entry, index, None)
            hashing.update(piece)
            yield piece
        if not entry.digest.matches(hashing.digest()):
            raise mismatch(expected_object(entry))

    def _fetch(self, entry: Entry, offset: int, length: int, digest: Digest | None) -> bytes:
        expected = expected_object(entry)
        try:
            return get_range(expected, self.store_for, offset, length, digest)
        except (ObjectMissing, DigestMismatch):
            self.note_damaged(entry.physical_key)
            place = self.elsewhere(entry)
            if place is None:
                raise
            return get_range(replace(expected, place=place), self.store_for, offset, length, digest)
