"""Reads that the cache can answer, in a process that fetches nothing: another one fetches what is missed here.

That one has to hear of some of the reads, to know what is worth fetching ahead; ``note`` tells it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from fusepkg_cache.digest import chunk_count, chunk_size

from fusepkg.fetch.chunks import chunk_spans, is_chunked, nth_digest
from fusepkg.fetch.readahead import MAX_AHEAD
from fusepkg.model.cache_names import cache_name, list_digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusepkg_cache import Cache
    from fusepkg_cache.digest import Digest

    from fusepkg.index.entries import EntryTable

_REMEMBERED = 16384
"""Entries remembered by their numbers, and chunks whose followers are here."""


class Watched(IntEnum):
    """Which reads the process that fetches has to hear of."""

    LARGE = 0
    """Of large blobs, until what could be fetched ahead is here."""
    SMALL = 1
    """Small blobs too: some were fetched ahead, and it counts who reads them."""
    ALL = 2
    """It answers all reads itself: it records them."""


class _Known(NamedTuple):
    """What an entry's bytes are called in the cache. ``chunks`` is the chunk list of a large one."""

    name: Digest
    size: int
    chunk_bytes: int
    is_chunked: bool
    chunks: bytes


class CachedReads:
    """Reads of one version. ``watched`` says which are to be noted."""

    def __init__(
        self,
        cache: Cache,
        entries: EntryTable,
        watched: Callable[[], int],
        note: Callable[[int, int, int], None],
    ) -> None:
        self._cache = cache
        self._entries = entries
        self._watched = watched
        self._note = note
        self._known: dict[int, _Known] = {}
        self._complete: set[tuple[int, int]] = set()

    def read(self, number: int, offset: int, length: int) -> bytes | None:
        """Return bytes of an entry, checked, fewer at its end; None if not all are in the cache, or all is watched."""
        if self._watched() == Watched.ALL:
            return None
        known = self._known.get(number) or self._look_up(number)
        if known is None:
            return None
        end = min(offset + length, known.size)
        if end <= offset:
            return b""
        if not known.is_chunked:
            data = self._cache.read(known.name, offset, end - offset, own_only=True)
        else:
            data = self._join(known, offset, end)
        if data is None or len(data) != end - offset:
            return None
        if known.is_chunked:
            self._note_large(number, known, offset, end)
        elif offset == 0 and self._watched() == Watched.SMALL:
            self._note(number, 0, end)
        return data

    def _look_up(self, number: int) -> _Known | None:
        """Return what an entry is called; None if it is large and its chunks are not known here."""
        entry = self._entries.entry(number)
        chunks = b""
        if is_chunked(entry):
            name = list_digest(entry)
            chunks = b"" if name is None else self._cache.get(name, own_only=True) or b""
            if not chunks:
                return None
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        sizes = entry.size, chunk_size(entry.size)
        known = self._known[number] = _Known(cache_name(entry), *sizes, bool(chunks), chunks)
        return known

    def _join(self, known: _Known, offset: int, end: int) -> bytes | None:
        first = offset // known.chunk_bytes
        if (end - 1) // known.chunk_bytes == first:  # nearly always
            at = offset - first * known.chunk_bytes
            return self._cache.read(nth_digest(known.chunks, first), at, end - offset, own_only=True)
        parts: list[bytes] = []
        for index, low, high in chunk_spans(known, offset, end):
            part = self._cache.read(nth_digest(known.chunks, index), low, high - low, own_only=True)
            if part is None:
                return None
            parts.append(part)
        return b"".join(parts)

    def _note_large(self, number: int, known: _Known, offset: int, end: int) -> None:
        """Tell of a read of a large blob, unless all that could be fetched ahead of it is here."""
        chunk = offset // known.chunk_bytes
        if (number, chunk) in self._complete:
            return
        following = range(chunk + 1, min(chunk + 1 + MAX_AHEAD, chunk_count(known.size)))
        if not all(nth_digest(known.chunks, index) in self._cache for index in following):
            self._note(number, offset, end - offset)
            return
        if len(self._complete) >= _REMEMBERED:
            self._complete.clear()
        self._complete.add((number, chunk))
