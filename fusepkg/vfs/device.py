"""The two files of bytes under a kernel file system: the image of a package, and its data as one address space.

Owns: which bytes of which blobs are ``data[a:b]``, and the owner and mode of the root directory in the image served.
Must not know: the kernel, FUSE, the network.

In the data address space each file starts on a block of 4 KiB, in tree order, with zeros up to the next block.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from fusepkg.index.erofs import BLOCK_BYTES

if TYPE_CHECKING:
    from fusepkg.fetch.source import BlobSource
    from fusepkg.index.opening import Index
    from fusepkg.index.reader import ImageReader
    from fusepkg.model.entry import Entry

_MODE_AT, _OWNER_AT = 4, 24
"""Where an extended EROFS inode holds its mode (u16) and its uid and gid (u32 each)."""


@dataclass(frozen=True, slots=True)
class RootOwner:
    """Who may enter the mount. The image is the same for everybody; its root inode is not."""

    mode: int
    uid: int
    gid: int


class ImageFile:
    """The image as one mount serves it: the index's bytes, with this mount's root owner put in."""

    def __init__(self, image: ImageReader, owner: RootOwner) -> None:
        self.size = image.size
        self._image = image
        start = image.inode_offset(image.root)
        self._patches = (
            (start + _MODE_AT, struct.pack("<H", owner.mode)),
            (start + _OWNER_AT, struct.pack("<II", owner.uid, owner.gid)),
        )

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the image, checked; fewer at its end. Raises IndexDamaged."""
        data = bytearray(self._image.read(offset, length))
        for at, patch in self._patches:
            for place, byte in enumerate(patch, at - offset):
                if 0 <= place < len(data):
                    data[place] = byte
        return bytes(data)


@dataclass(frozen=True, slots=True)
class _Piece:
    """``length`` bytes of ``entry`` from ``offset``, to be put ``at`` bytes into the answer."""

    entry: Entry
    offset: int
    length: int
    at: int


class DataDevice:
    """All data of a package as one read-only device."""

    def __init__(self, index: Index, source: BlobSource) -> None:
        self.size = index.data_blocks * BLOCK_BYTES
        self._entries = index.entries
        self._source = source

    async def read(self, offset: int, length: int) -> bytes:
        """Bytes of the device, verified, zeros between files. Raises RemoteError, IntegrityError, CacheFailure."""
        length = max(0, min(length, self.size - offset))
        pieces = self._pieces(offset, length)
        if len(pieces) == 1:
            piece = pieces[0]
            data = await self._source.read(piece.entry, piece.offset, piece.length)
            return data if len(data) == length else (bytes(piece.at) + data).ljust(length, b"\0")
        answer = bytearray(length)
        async with trio.open_nursery() as nursery:
            for piece in pieces:
                nursery.start_soon(self._fill, answer, piece)
        return bytes(answer)

    async def _fill(self, answer: bytearray, piece: _Piece) -> None:
        data = await self._source.read(piece.entry, piece.offset, piece.length)
        answer[piece.at : piece.at + len(data)] = data

    def _pieces(self, offset: int, length: int) -> list[_Piece]:
        """What parts of which blobs lie in that part of the device, in order."""
        pieces: list[_Piece] = []
        at = offset
        end = offset + length
        while at < end:
            number = self._entries.find(at // BLOCK_BYTES)
            if number is None:
                break
            entry = self._entries.entry(number)
            start = self._entries.start_block(number) * BLOCK_BYTES
            here = min(end, start + entry.size)
            if here > at:
                pieces.append(_Piece(entry, at - start, here - at, at - offset))
            at = start + -(-entry.size // BLOCK_BYTES) * BLOCK_BYTES
        return pieces
