"""An entry as a file object."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import WriteableBuffer

BUFFER_BYTES = 1 << 20
"""Most that is asked for at a time for small reads: those of a parser become few calls."""

FIRST_BYTES = 64 * 1024
"""Asked for after a jump; doubled with each read in order. Reads of at least this length ask for their own bytes."""


class EntryFile(io.RawIOBase):
    """A seekable, read-only binary file; ``read_at(offset, length)`` gives its bytes, fewer at its end."""

    def __init__(self, name: str, size: int, read_at: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self.name = name
        self._size = size
        self._read_at = read_at
        self._position = 0
        self._end_of_last = -1
        self._next_bytes = FIRST_BYTES

    @property
    def mode(self) -> str:
        """As of a file opened for reading bytes."""
        return "rb"

    def readable(self) -> bool:
        """It is, until it is closed."""
        self._check_open()
        return True

    def seekable(self) -> bool:
        """It is, until it is closed."""
        self._check_open()
        return True

    def tell(self) -> int:
        """Where the next read starts."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; past the end is allowed, as in any file."""
        self._check_open()
        starts = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}
        if whence not in starts:
            raise ValueError(f"whence is {whence}")
        if starts[whence] + offset < 0:
            raise ValueError(f"no position {starts[whence] + offset}")
        self._position = starts[whence] + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read into the buffer from here on, less than it takes after a jump; 0 at the end."""
        self._check_open()
        view = memoryview(buffer).cast("B")
        is_next = self._position == self._end_of_last
        self._next_bytes = min(2 * self._next_bytes, BUFFER_BYTES) if is_next else FIRST_BYTES
        left = max(0, self._size - self._position)
        data = self._read_at(self._position, min(len(view), left, self._next_bytes))
        view[: len(data)] = data
        self._position += len(data)
        self._end_of_last = self._position
        return len(data)

    def readall(self) -> bytes:
        """All that is left, in one piece."""
        self._check_open()
        data = self._read_at(self._position, max(0, self._size - self._position))
        self._position += len(data)
        return data

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")


class BufferedEntry(io.BufferedReader):
    """An entry with a buffer for small reads; ``read_at`` as of EntryFile."""

    def __init__(
        self, name: str, size: int, read_at: Callable[[int, int], bytes], buffer_bytes: int = BUFFER_BYTES
    ) -> None:
        self._read_at, self._size = read_at, size
        super().__init__(EntryFile(name, size, read_at), buffer_bytes)

    def read(self, size: int | None = -1, /) -> bytes:
        """Return so many bytes, all that follow for -1 or None. Long reads ask for their own bytes and no more."""
        if size is None or size < FIRST_BYTES:
            return super().read(size)
        position = self.tell()
        data = self._read_at(position, min(size, max(0, self._size - position)))
        self.seek(position + len(data))
        return data
