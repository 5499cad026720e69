"""The parts of the EROFS on-disk format that images of packages use.

An image has 4 KiB blocks: block 0 with the superblock, the inodes in tree order, then the blocks of directories. No
inode crosses a block boundary. File data is not in it but on device 1, which only the device table names.
"""

from __future__ import annotations

import stat
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK_BYTES = 4096
"""The block size: the page size of nearly every machine, the only one all kernels with EROFS take."""

SLOT_BYTES = 32
"""Inodes start at multiples of this; an inode's number (nid) counts these from ``INODES_BLOCK``."""

INODES_BLOCK = 1
"""Block the inodes start in."""

ROOT_NID = 1
"""The root's inode number in the kernel. Not 0: readdir(3) takes an entry with inode number 0 for a deleted one, and
``ls -a`` would not show ``.`` in the root. And FUSE calls its root 1 too."""

THIS_DEVICE = 0
"""Device id of the image itself."""

DATA_DEVICE = 1
"""Device id of the data address space."""

MAX_DEVICE_BLOCKS = 2**32 - 1
"""Blocks one device can have, 16 TiB: block numbers have 32 bits and the last one means a hole."""

MAX_CHUNK_BITS = 31
"""A chunk has at most 2**31 blocks (8 TiB): its size is kept as a five-bit exponent."""

SUPERBLOCK_OFFSET = 1024
SUPERBLOCK = struct.Struct("<IIIBBHQQIIII16s16sIHHHBBIQB23x")
"""magic, checksum, compatible features, block bits, extra slots, root nid, inodes, time, its ns, blocks, first inode
block, xattr block, uuid, volume name, incompatible features, compression, devices, device slot, directory block bits,
xattr prefixes, their start, packed nid, xattr filter."""

MAGIC = 0xE0F5E1E2
COMPATIBLE_MTIME = 0x2
INCOMPATIBLE_CHUNKED_FILE = 0x4
INCOMPATIBLE_DEVICE_TABLE = 0x8

DEVICE_SLOT = struct.Struct("<64sII56x")
"""tag, blocks, and the block it is mapped to (0: not mapped)."""

DEVICE_SLOT_NUMBER = (SUPERBLOCK_OFFSET + SUPERBLOCK.size) // DEVICE_SLOT.size

# i_format: bit 0 is set for a 64-byte inode, bits 1 to 3 are the data layout.
EXTENDED = 1
PLAIN = 0 << 1
INLINE = 2 << 1
CHUNKED = 4 << 1

CHUNK_INDEXES = 0x20
"""Chunk format flag: an 8-byte index with a device id, not a 4-byte block number."""

EXTENDED_INODE = struct.Struct("<HHHHQIIIIQII16x")
"""format, xattrs, mode, reserved, size, block or chunk format, ino, uid, gid, mtime, its ns, nlink. All inodes are of
this kind: those of 32 bytes have no time of their own before Linux 6.15."""

MODE_AT, SIZE_AT, OWNER_AT, MTIME_AT, NLINK_AT = 4, 8, 24, 32, 44
"""Where an inode holds its mode (u16), its size (u64) and block (u32), its owner (uid and gid, u32 each), its time
(u64) and its number of links (u32)."""

CHUNK_INDEX = struct.Struct("<HHI")
"""advise, device id, block; right behind its inode, at a multiple of 8."""

FILE = struct.Struct(EXTENDED_INODE.format + CHUNK_INDEX.format.removeprefix("<") + "24x")
"""An inode with its one chunk index, padded to whole slots."""


def inodes_in(data: bytes | bytearray, start: int, end: int) -> Iterator[int]:
    """Yield where the inodes in ``data[start:end]`` begin: a block of inodes, or its part from an inode on."""
    at = start
    while at + EXTENDED_INODE.size <= end:
        layout = int.from_bytes(data[at : at + 2], "little")
        if not layout:  # the rest of the block had no room for the next inode
            return
        yield at
        size = EXTENDED_INODE.size
        if layout & ~EXTENDED == CHUNKED:
            size = FILE.size
        elif layout & ~EXTENDED == INLINE:
            size += int.from_bytes(data[at + SIZE_AT : at + SIZE_AT + 8], "little")
        at += -(-size // SLOT_BYTES) * SLOT_BYTES


DIRENT = struct.Struct("<QHBB")
"""nid, offset of the name in the block, type, reserved. A block has its entries first, then their names; in a
directory, names are sorted by their bytes, also from block to block, ``.`` and ``..`` among them."""

MAX_INLINE_BYTES = BLOCK_BYTES - EXTENDED_INODE.size
"""Longest symbolic link target that fits behind its inode."""

TYPE_FILE, TYPE_DIRECTORY, TYPE_SYMLINK = 1, 2, 7

MODE_OF_TYPE = {TYPE_FILE: stat.S_IFREG, TYPE_DIRECTORY: stat.S_IFDIR, TYPE_SYMLINK: stat.S_IFLNK}

FIRST_ENTRY_INO, FIRST_DIRECTORY_INO = 1, 2**31
"""i_ino (which 64-bit kernels ignore) is this plus the number of the entry, or of the directory."""
