"""What a mount's programs read first, noted while a profile is recorded."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fusepkg_cache.digest import chunk_size

from fusepkg.fetch.chunks import chunk_spans, is_chunked
from fusepkg.model.access_profile import FORMAT, MAX_PROFILE_BYTES, MAX_READS, FirstRead, ProfileHeader, write_profile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusepkg.model.entry import Entry


class FirstReads:
    """The files, and of large ones the chunks, that were read since this was made, in order. On one thread."""

    def __init__(self) -> None:
        self.began_s = time.time()
        self._began = time.monotonic()
        self._ended: float | None = None
        self._seen: dict[tuple[str, int], tuple[int, int]] = {}
        self._name_bytes = 0
        self.is_cut = False

    def __len__(self) -> int:
        return len(self._seen)

    def note(self, entry: Entry, offset: int, end: int) -> None:
        """Note that bytes of an entry are read. No checkpoint."""
        chunks = [index for index, _, _ in chunk_spans(entry, offset, end)] if is_chunked(entry) else [0]
        for chunk in chunks:
            if (entry.logical_key, chunk) in self._seen:
                continue
            # A line has its name, in which JSON may escape each byte, and less than 100 bytes beside it.
            self._name_bytes += 6 * len(entry.logical_key) + 100
            self.is_cut = self.is_cut or len(self) >= MAX_READS or self._name_bytes > MAX_PROFILE_BYTES
            if self._ended is not None or self.is_cut:
                return
            self._seen[entry.logical_key, chunk] = self._at_ms(), chunk_size(entry.size)

    def end(self) -> None:
        """Note nothing more."""
        self._ended = time.monotonic()

    def document(self, top_hash: str) -> bytes:
        """Return the profile of a version."""
        seconds = (self._ended or time.monotonic()) - self._began
        header = ProfileHeader(FORMAT, top_hash, round(self.began_s, 3), round(seconds, 3), len(self), self.is_cut)
        return write_profile(header, self._reads())

    def _reads(self) -> Iterator[FirstRead]:
        for (path, chunk), (at, chunk_bytes) in self._seen.items():
            yield FirstRead(at, path, chunk * chunk_bytes)

    def _at_ms(self) -> int:
        return int((time.monotonic() - self._began) * 1000)
