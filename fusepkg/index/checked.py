"""A file of the index mapped into memory, each block checked against its sum before its first use.

Owns: sums of blocks, and remembering which blocks this process has seen to be right. Must not know: what is in them.
"""

from __future__ import annotations

import mmap
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

import xxhash

from fusepkg.errors import IndexDamaged
from fusepkg.index.erofs import BLOCK_BYTES as BLOCK_BYTES

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

_SUM = struct.Struct("<Q")


DAMAGED = "damaged"
"""Name of the marker beside a file in which damage was found."""


def damage_found(path: Path, message: str) -> IndexDamaged:
    """The error for a sum that is wrong; leaves a mark, so that the next one to open the index builds it anew."""
    with suppress(OSError):  # the disk may be what is broken
        (path.parent / DAMAGED).touch(mode=0o600)
    return IndexDamaged(message, hint="Unmount and mount again: the index is then built anew")


def map_file(path: Path, *, least_bytes: int) -> mmap.mmap:
    """Map a whole file; raises IndexDamaged where it is missing or too short."""
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    except (OSError, ValueError) as exc:  # ValueError: an empty file
        raise IndexDamaged(f"{path} cannot be read: {exc}") from exc
    if len(mapped) < least_bytes:
        raise IndexDamaged(f"{path} is cut off: it has {len(mapped)} bytes")
    return mapped


def block_sum(number: int, block: bytes | memoryview) -> int:
    """The sum of a block; depends on its number, so that a block in the wrong place is wrong."""
    return xxhash.xxh3_64_intdigest(block, seed=number)


def write_sums(file: BinaryIO, sums: BinaryIO) -> None:
    """Write the sum of each block of ``file``."""
    file.seek(0)
    number = 0
    while piece := file.read(256 * BLOCK_BYTES):
        view = memoryview(piece)
        out = bytearray()
        for at in range(0, len(piece), BLOCK_BYTES):
            out += _SUM.pack(block_sum(number, view[at : at + BLOCK_BYTES]))
            number += 1
        sums.write(out)


class CheckedFile:
    """A mapped file of whole blocks with a file of sums beside it. Safe to use from many threads."""

    __slots__ = ("_data", "_path", "_seen", "_sums", "_view", "blocks", "size")

    def __init__(self, path: Path, sums_path: Path) -> None:
        self._path = path
        self._data = map_file(path, least_bytes=BLOCK_BYTES)
        self._view = memoryview(self._data)
        self._sums = map_file(sums_path, least_bytes=_SUM.size)
        self.size = len(self._data)
        self.blocks = self.size // BLOCK_BYTES
        if self.size % BLOCK_BYTES or len(self._sums) != self.blocks * _SUM.size:
            raise IndexDamaged(f"{path} and its sums are not of one size")
        self._seen = bytearray(self.blocks)

    def check(self, number: int) -> None:
        """Check one block unless that was done before; raises IndexDamaged."""
        if self._seen[number]:
            return
        block = self._view[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES]
        if block_sum(number, block) != _SUM.unpack_from(self._sums, number * _SUM.size)[0]:
            raise damage_found(self._path, f"block {number} of {self._path} is damaged")
        self._seen[number] = 1

    def block(self, number: int) -> memoryview:
        """One block, checked."""
        if not 0 <= number < self.blocks:
            raise IndexDamaged(f"{self._path} has no block {number}")
        self.check(number)
        return self._view[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES]

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the file, checked; fewer at its end."""
        end = min(offset + length, self.size)
        if end <= offset:
            return b""
        for number in range(offset // BLOCK_BYTES, (end - 1) // BLOCK_BYTES + 1):
            self.check(number)
        return self._data[offset:end]
