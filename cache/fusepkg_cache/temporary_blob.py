"""A blob in a temporary file, for programs whose cache cannot be used; checked as in a cache."""

from __future__ import annotations

import os
import tempfile
import weakref
from typing import TYPE_CHECKING

from fusepkg_cache._translate import translated
from fusepkg_cache.errors import WrongBytes
from fusepkg_cache.files import check_in_full, read_checked
from fusepkg_cache.records import span_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fusepkg_cache.digest import Digest


class TemporaryBlob:
    """One blob, on the disk for as long as this object or its process lives.

    Raises: WrongBytes where the pieces are not the blob, CacheUnusable where no directory for temporary files has
    room for it, and what ``pieces`` raises.
    """

    def __init__(self, digest: Digest, pieces: Iterable[bytes]) -> None:
        self._digest = digest
        keeping = f"cannot keep {digest} in a temporary file in {tempfile.gettempdir()}"
        with translated(keeping), tempfile.TemporaryFile() as file:
            self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)  # not sooner: another thread may be reading
        for piece in pieces:
            with translated(keeping):
                view = memoryview(piece)
                while view:
                    view = view[os.write(self._descriptor, view) :]
        with translated(f"cannot read {digest} back from a temporary file"):
            record = check_in_full(self._descriptor, digest)
        if record is None:
            raise WrongBytes(f"{self.size} bytes given as {digest} hash to something else")
        self._record = record

    @property
    def size(self) -> int:
        """The blob's size in bytes."""
        return os.fstat(self._descriptor).st_size

    def read(self, offset: int, length: int) -> bytes | None:
        """Part of the blob, fewer bytes at its end; None where the disk has changed or lost it."""
        span = span_of(self._record, offset, length)
        if span is None:
            return None
        try:
            data = read_checked(self._descriptor, self._digest, span)
        except OSError:
            return None
        if data is None:
            return None
        skip = min(offset, span.blob_bytes) - span.start
        return data[skip : skip + length]
