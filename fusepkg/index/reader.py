"""Reads the image of a package: names to inodes, directories, symbolic links, and the image's own bytes.

An inode is known by its *nid* here: its place in the image counted from the root, which is 0. The kernel's inode
number is ``erofs.ROOT_NID`` more. Nothing is kept between calls: many threads and processes may read one image.
"""

from __future__ import annotations

import stat
import struct
from typing import TYPE_CHECKING, NamedTuple

from fusepkg.errors import IndexDamaged, NotADirectory, NotASymlink
from fusepkg.index import erofs
from fusepkg.index.erofs import BLOCK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusepkg.index.checked import CheckedFile


class Inode(NamedTuple):
    """What stat(2) wants to know. ``start_block`` is on the data device for a file (0 if it is empty), in the image
    for a directory; ``entry_number`` is None for a directory."""

    nid: int
    mode: int
    size: int
    nlink: int
    mtime_s: int
    start_block: int
    entry_number: int | None

    @property
    def is_directory(self) -> bool:
        """Whether lookup and readdir make sense."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_symlink(self) -> bool:
        """Whether readlink makes sense."""
        return stat.S_ISLNK(self.mode)


class ImageReader:
    """One image. Calls raise IndexDamaged if a block is damaged and cannot be repaired."""

    __slots__ = ("_file", "data_blocks", "inodes", "root", "size", "top_hash")

    def __init__(self, file: CheckedFile) -> None:
        self._file = file
        self.size = self._file.size
        self.root = 0
        first = self._file.block(0)
        fields = erofs.SUPERBLOCK.unpack_from(first, erofs.SUPERBLOCK_OFFSET)
        magic, self.inodes, blocks = fields[0], fields[6], fields[9]
        tag, self.data_blocks, _ = erofs.DEVICE_SLOT.unpack_from(
            first, erofs.DEVICE_SLOT_NUMBER * erofs.DEVICE_SLOT.size
        )
        self.top_hash = tag.decode("ascii", "replace")
        if magic != erofs.MAGIC or blocks != self._file.blocks:
            raise IndexDamaged(f"{file.path} is not an image of a package")

    def inode_offset(self, nid: int) -> int:
        """Where an inode lies in the image, in bytes."""
        return erofs.INODES_BLOCK * BLOCK_BYTES + (nid + erofs.ROOT_NID) * erofs.SLOT_BYTES

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the image itself; fewer at its end."""
        return self._file.read(offset, length)

    def check(self) -> None:
        """Check the whole image. Raises IndexDamaged."""
        self._file.check()

    def inode(self, nid: int) -> Inode:
        """The attributes of an inode."""
        return self._inode(nid)[0]

    def lookup(self, nid: int, name: bytes) -> int | None:
        """The nid of ``name`` in a directory, None if it has no such name. Raises NotADirectory."""
        directory = self._directory(nid)
        low, high = 0, _blocks(directory.size) - 1
        while low < high:  # the last block whose first name is not above the wanted one
            middle = (low + high + 1) // 2
            if self._dirents(directory, middle).name(0) <= name:
                low = middle
            else:
                high = middle - 1
        dirents = self._dirents(directory, low)
        low, high = 0, dirents.count
        while low < high:
            middle = (low + high) // 2
            if dirents.name(middle) < name:
                low = middle + 1
            else:
                high = middle
        return dirents.nid(low) if low < dirents.count and dirents.name(low) == name else None

    def readdir(self, nid: int, position: int = 0) -> Iterator[tuple[bytes, int, int, int]]:
        """Name, nid, type (as in st_mode) and following position of each entry from ``position`` on (0: the first).

        Sorted by name, with ``.`` and ``..``. A position says where to go on, and never changes for an image. Raises
        NotADirectory.
        """
        directory = self._directory(nid)
        first, place = divmod(position, BLOCK_BYTES)
        for block in range(first, _blocks(directory.size)):
            dirents = self._dirents(directory, block)
            for number in range(place, dirents.count):
                following = block * BLOCK_BYTES + number + 1
                if number + 1 == dirents.count:
                    following = (block + 1) * BLOCK_BYTES
                yield dirents.name(number), dirents.nid(number), dirents.mode(number), following
            place = 0

    def readlink(self, nid: int) -> bytes:
        """The target of a symbolic link. Raises NotASymlink."""
        inode, layout = self._inode(nid)
        if not inode.is_symlink:
            raise NotASymlink("not a symbolic link")
        if layout == erofs.INLINE:
            return self.read(self.inode_offset(nid) + erofs.EXTENDED_INODE.size, inode.size)
        return self.read(inode.start_block * BLOCK_BYTES, inode.size)

    def _inode(self, nid: int) -> tuple[Inode, int]:
        block, offset = divmod(self.inode_offset(nid), BLOCK_BYTES)
        data = self._file.block(block)
        try:
            layout, _, mode, _, size, place, ino, _, _, mtime_s, _, nlink = erofs.EXTENDED_INODE.unpack_from(
                data, offset
            )
            offset += erofs.EXTENDED_INODE.size
            layout &= ~erofs.EXTENDED
            if layout == erofs.CHUNKED:
                place = erofs.CHUNK_INDEX.unpack_from(data, offset)[2]
        except struct.error as exc:
            raise IndexDamaged(f"the image has no inode {nid}") from exc
        number = ino - erofs.FIRST_ENTRY_INO if ino < erofs.FIRST_DIRECTORY_INO else None
        return Inode(nid, mode, size, nlink, mtime_s, place, number), layout

    def _directory(self, nid: int) -> Inode:
        inode = self._inode(nid)[0]
        if not inode.is_directory:
            raise NotADirectory("not a directory")
        return inode

    def _dirents(self, directory: Inode, block: int) -> _Dirents:
        end = min(BLOCK_BYTES, directory.size - block * BLOCK_BYTES)
        return _Dirents(self._file.block(directory.start_block + block), end)


class _Dirents:
    """The entries of one directory block."""

    __slots__ = ("_data", "_end", "count")

    def __init__(self, data: bytes, end: int) -> None:
        self._data = data
        self._end = end
        self.count = erofs.DIRENT.unpack_from(data)[1] // erofs.DIRENT.size

    def name(self, number: int) -> bytes:
        at = number * erofs.DIRENT.size
        start = erofs.DIRENT.unpack_from(self._data, at)[1]
        if number + 1 < self.count:
            end = erofs.DIRENT.unpack_from(self._data, at + erofs.DIRENT.size)[1]
            return self._data[start:end]
        return self._data[start : self._end].rstrip(b"\0")

    def nid(self, number: int) -> int:
        nid: int = erofs.DIRENT.unpack_from(self._data, number * erofs.DIRENT.size)[0]
        return nid - erofs.ROOT_NID

    def mode(self, number: int) -> int:
        return erofs.MODE_OF_TYPE[erofs.DIRENT.unpack_from(self._data, number * erofs.DIRENT.size)[2]]


def _blocks(size: int) -> int:
    return -(-size // BLOCK_BYTES)
