"""The two files of bytes under a kernel file system: the image of a package, and its data as one address space.

In the data address space each file starts on a block of 4 KiB, in tree order, with zeros up to the next block.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import trio

from fusepkg.index import erofs
from fusepkg.index.erofs import BLOCK_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusepkg.fetch.reader import EntryReader
    from fusepkg.index.opening import Index
    from fusepkg.model.entry import Entry

_TIME = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class RootOwner:
    """Who may enter the mount. The image is the same for everybody; its root inode is not."""

    mode: int
    uid: int
    gid: int


class ImageFile:
    """The image as one mount serves it: the index's bytes, with this mount's root owner and times put in.

    ``time_s`` is the time of all files and directories, None for those of the index.
    """

    def __init__(self, index: Index, owner: RootOwner, time_s: int | None = None) -> None:
        self.size = index.image.size
        self._image = index.image
        self._inodes_end = index.entries.inodes_end
        self._time = None if time_s is None else _TIME.pack(time_s)
        start = index.image.inode_offset(index.image.root)
        self._patches = (
            (start + erofs.MODE_AT, struct.pack("<H", owner.mode)),
            (start + erofs.OWNER_AT, struct.pack("<II", owner.uid, owner.gid)),
        )

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the image, checked; fewer at its end. Raises IndexDamaged."""
        if self._time is not None:
            return self._with_one_time(offset, length)
        return self._with_root_owner(offset, self._image.read(offset, length))

    def _with_root_owner(self, offset: int, read: bytes) -> bytes:
        if offset > self._patches[-1][0] + BLOCK_BYTES:
            return read
        data = bytearray(read)
        for at, patch in self._patches:
            for place, byte in enumerate(patch, at - offset):
                if 0 <= place < len(data):
                    data[place] = byte
        return bytes(data)

    def _with_one_time(self, offset: int, length: int) -> bytes:
        """As ``read``, with the time of every inode replaced: whole blocks, because inodes do not cross their ends."""
        start = offset - offset % BLOCK_BYTES
        end = -(-(offset + length) // BLOCK_BYTES) * BLOCK_BYTES
        data = bytearray(self._with_root_owner(start, self._image.read(start, end - start)))
        first = erofs.INODES_BLOCK * BLOCK_BYTES
        for block in range(0, len(data), BLOCK_BYTES):
            if first <= start + block < self._inodes_end:
                at = erofs.ROOT_NID * erofs.SLOT_BYTES if start + block == first else 0
                stop = min(BLOCK_BYTES, self._inodes_end - start - block)
                for inode in erofs.inodes_in(data, block + at, block + stop):
                    data[inode + erofs.MTIME_AT : inode + erofs.MTIME_AT + _TIME.size] = self._time or b""
        return bytes(data[offset - start : offset - start + length])


class _Piece(NamedTuple):
    """``length`` bytes of entry ``number`` from ``offset``, to be put ``at`` bytes into the answer."""

    number: int
    offset: int
    length: int
    at: int


class DataDevice:
    """All data of a package as one read-only device. Without a ``reader``, it is read with ``read_at_once`` only."""

    def __init__(self, index: Index, reader: EntryReader | None) -> None:
        self.size = index.data_blocks * BLOCK_BYTES
        self._entries = index.entries
        self._reader = reader

    def read_at_once(self, offset: int, length: int, read: Callable[[int, int, int], bytes | None]) -> bytes | None:
        """Bytes of the device, if ``read`` has all of them: it gets the number of an entry, offset and length."""
        length = max(0, min(length, self.size - offset))
        answer: list[bytes] = []
        end = 0
        for piece in self._pieces(offset, length):
            data = read(piece.number, piece.offset, piece.length)
            if data is None or len(data) != piece.length:
                return None
            if piece.at > end:
                answer.append(bytes(piece.at - end))
            answer.append(data)
            end = piece.at + piece.length
        if end < length:
            answer.append(bytes(length - end))
        return answer[0] if len(answer) == 1 else b"".join(answer)

    def entry(self, number: int) -> Entry:
        """The entry of that number."""
        return self._entries.entry(number)

    async def read(self, offset: int, length: int) -> bytes:
        """Bytes of the device, verified, zeros between files. Raises RemoteError, IntegrityError, CacheFailure."""
        length = max(0, min(length, self.size - offset))
        pieces = self._pieces(offset, length)
        if len(pieces) == 1:
            piece = pieces[0]
            data = await self._read(piece)
            return data if len(data) == length else (bytes(piece.at) + data).ljust(length, b"\0")
        answer = bytearray(length)
        async with trio.open_nursery() as nursery:
            for piece in pieces:
                nursery.start_soon(self._fill, answer, piece)
        return bytes(answer)

    async def _read(self, piece: _Piece) -> bytes:
        assert self._reader is not None, "it was made to be read with a reader"
        return await self._reader.read(self._entries.entry(piece.number), piece.offset, piece.length)

    async def _fill(self, answer: bytearray, piece: _Piece) -> None:
        data = await self._read(piece)
        answer[piece.at : piece.at + len(data)] = data

    def _pieces(self, offset: int, length: int) -> list[_Piece]:
        """What parts of which blobs lie in that part of the device, in order."""
        pieces: list[_Piece] = []
        at = offset
        end = offset + length
        number = self._entries.find(at // BLOCK_BYTES)
        while number is not None and at < end:
            start_block, size = self._entries.extent(number)
            start = start_block * BLOCK_BYTES
            here = min(end, start + size)
            if here > at:
                pieces.append(_Piece(number, at - start, here - at, at - offset))
            at = start + -(-size // BLOCK_BYTES) * BLOCK_BYTES
            number += 1  # entries lie in their order, without gaps
        return pieces
