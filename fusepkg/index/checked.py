"""A file of the index, read block by block; each block is checked before it is used.

Files are read with pread, not mapped: a file that is cut off or a disk that fails is an error, never a signal. A block
is compared with the sum in the seal when it is read first. When it is read again, a fast checksum of what was read
first is enough: the disk may have changed it, and nobody else can write there.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import weakref
from array import array
from contextlib import suppress
from typing import TYPE_CHECKING

import xxhash

from fusepkg.errors import FusepkgError, IndexDamaged
from fusepkg.index.erofs import BLOCK_BYTES as BLOCK_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import BinaryIO

log = logging.getLogger(__name__)

SUM_BYTES = 16

_KEPT_BLOCKS = 4096
"""Checked blocks kept in memory per file: 16 MiB."""

_PIECE_BLOCKS = 256
"""Blocks read at once where a whole file is read."""

HINT = "Unmount and mount again, or start the program again: the index is then rebuilt"


def block_sum(number: int, block: bytes | memoryview) -> bytes:
    """Return the sum of a block. It depends on the number, so that a block in the wrong place is wrong."""
    return hashlib.blake2b(block, digest_size=SUM_BYTES, salt=number.to_bytes(16, "little")).digest()


def sums_of(file: BinaryIO) -> bytes:
    """Return the sums of all blocks of a file of whole blocks."""
    file.seek(0)
    number = 0
    sums = []
    while piece := file.read(_PIECE_BLOCKS * BLOCK_BYTES):
        view = memoryview(piece)
        for at in range(0, len(piece), BLOCK_BYTES):
            sums.append(block_sum(number, view[at : at + BLOCK_BYTES]))
            number += 1
    return b"".join(sums)


class CheckedFile:
    """A file of whole blocks whose sums are known. Safe to use from many threads, and after a fork.

    If a block is damaged, ``repair`` gives a directory with a good file of the same name, and the block is read there.
    """

    def __init__(self, path: Path, sums: bytes) -> None:
        self.path = path
        self.repair: Callable[[], AbstractContextManager[Path]] | None = None
        self.blocks = len(sums) // SUM_BYTES
        self.size = self.blocks * BLOCK_BYTES
        self._sums = sums
        self._kept: dict[int, bytes] = {}
        self._seen = array("Q", bytes(8 * self.blocks))  # fast checksums of blocks that were right, 0 of others
        self._repairing = threading.Lock()
        self._descriptor = Descriptor(path)
        try:
            found = os.fstat(self._descriptor.number).st_size
        except OSError as exc:
            raise IndexDamaged(f"{path} cannot be read: {exc}") from exc
        if found != self.size:
            raise IndexDamaged(f"{path} has {found} bytes, not {self.size}")

    def block(self, number: int) -> bytes:
        """Return one block. Raises IndexDamaged if it is damaged and cannot be repaired."""
        kept = self._kept.get(number)
        if kept is not None:
            return kept
        if not 0 <= number < self.blocks:
            raise IndexDamaged(f"{self.path} has no block {number}", hint=HINT)
        block = self._run(number, 1)
        if len(self._kept) >= _KEPT_BLOCKS:
            self._kept = {}  # cheaper than an order, and a thread that still has the old one does no harm
        self._kept[number] = block
        return block

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the file, fewer at its end. Raises IndexDamaged as ``block`` does."""
        end = min(offset + length, self.size)
        if end <= offset:
            return b""
        first, last = offset // BLOCK_BYTES, (end - 1) // BLOCK_BYTES
        at = offset - first * BLOCK_BYTES
        if last - first < 2:
            data = self.block(first) if first == last else self.block(first) + self.block(last)
        else:
            data = self._run(first, last - first + 1)
        return data[at : at + end - offset]

    def check(self) -> None:
        """Check the whole file. Raises IndexDamaged if it is damaged and cannot be repaired."""
        for first in range(0, self.blocks, _PIECE_BLOCKS):
            self._run(first, min(_PIECE_BLOCKS, self.blocks - first))

    def _run(self, first: int, count: int) -> bytes:
        data = self._read_good(first, count)
        if data is not None:
            return data
        with self._repairing:
            data = self._repaired_run(first, count)
        if data is None:
            raise IndexDamaged(f"{self.path} is damaged in block {first} or the {count - 1} after it", hint=HINT)
        return data

    def _repaired_run(self, first: int, count: int) -> bytes | None:
        """Replace the file by a good one and read it; None if there is none."""
        with suppress(IndexDamaged):  # another thread or process may have repaired it
            self._descriptor = Descriptor(self.path)
        data = self._read_good(first, count)
        if data is not None or self.repair is None:
            return data
        log.warning("%s is damaged; rebuilding it", self.path)
        try:
            with self.repair() as directory:
                self._descriptor = Descriptor(directory / self.path.name)
        except FusepkgError as exc:
            log.error("%s cannot be rebuilt: %s", self.path, exc.message)
            return None
        return self._read_good(first, count)

    def _read_good(self, first: int, count: int) -> bytes | None:
        descriptor = self._descriptor  # held, so that it is not closed meanwhile
        try:
            data = os.pread(descriptor.number, count * BLOCK_BYTES, first * BLOCK_BYTES)
        except OSError:
            return None
        if len(data) != count * BLOCK_BYTES:
            return None
        view = memoryview(data)
        for number in range(count):
            if not self._is_good(first + number, view[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES]):
                return None
        return data

    def _is_good(self, number: int, block: memoryview) -> bool:
        fast = xxhash.xxh3_64_intdigest(block)
        if self._seen[number] == fast:
            return True
        if block_sum(number, block) != self._sums[number * SUM_BYTES : (number + 1) * SUM_BYTES]:
            return False
        self._seen[number] = fast
        return True


class Descriptor:
    """A file descriptor that is closed with the last reference to it, and so never under a thread that reads."""

    def __init__(self, path: Path) -> None:
        try:
            self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as exc:
            raise IndexDamaged(f"{path} cannot be read: {exc}") from exc
        weakref.finalize(self, os.close, self.number)
