"""The first bytes of many entries, footers and whole small files; all of them verified, and counted."""

from __future__ import annotations

import io
from itertools import islice
from typing import TYPE_CHECKING

from fusepkg.errors import FusepkgError
from fusepkg.opened.file import EntryFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fusepkg.api.entry import PackageEntry
    from fusepkg.api.package import Package

HEAD_BYTES = 64 << 10
"""Looked at of a picture or a table: enough for nearly all headers."""

_SIDE_BY_SIDE = 256
"""Entries whose heads are fetched together: 16 MiB in memory."""

_BUFFER_BYTES = 64 << 10


class Reading:
    """Reads entries of a package. ``read_bytes`` is what was looked at; more may have been fetched to verify it."""

    def __init__(self, package: Package) -> None:
        self._reader = package.reader
        self.read_bytes = 0

    def heads(
        self, entries: Iterable[PackageEntry], length: int = HEAD_BYTES
    ) -> Iterator[tuple[PackageEntry, bytes | FusepkgError]]:
        """Yield entries with their first bytes, or the error that kept these away."""
        waiting = iter(entries)
        while some := list(islice(waiting, _SIDE_BY_SIDE)):
            found = self._reader.read_many([(entry.record, 0, min(length, entry.size)) for entry in some])
            for entry, data in zip(some, found, strict=True):
                if not isinstance(data, FusepkgError):
                    self.read_bytes += len(data)
                yield entry, data

    def whole(self, entry: PackageEntry) -> bytes:
        """Return all bytes of an entry. Raises RemoteError, IntegrityError."""
        data = self._reader.read(entry.record)
        self.read_bytes += len(data)
        return data

    def open(self, entry: PackageEntry) -> io.BufferedReader:
        """Return an entry as a file, of which only what is read is fetched."""
        record = entry.record

        def read_at(offset: int, length: int) -> bytes:
            data = self._reader.read(record, offset, length)
            self.read_bytes += len(data)
            return data

        return io.BufferedReader(EntryFile(entry.logical_key, record.size, read_at), _BUFFER_BYTES)
