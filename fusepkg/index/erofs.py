"""The parts of the EROFS on-disk format that images of packages use.

Owns: struct layouts, flags, and what about them is our choice. Must not know: packages, files.

An image has 4 KiB blocks: block 0 with the superblock, the inodes in tree order, then the blocks of directories. No
inode crosses a block boundary. File data is not in it but on device 1, which only the device table names.
"""

from __future__ import annotations

import stat
import struct

BLOCK_BYTES = 4096
"""The block size: the page size of nearly every machine, the only one all kernels with EROFS take."""

SLOT_BYTES = 32
"""Inodes start at multiples of this; an inode's number (nid) counts these from ``INODES_BLOCK``."""

INODES_BLOCK = 1
"""Block the inodes start in."""

ROOT_NID = 1
"""The root's inode number in the kernel. Not 0: readdir(3) takes an entry with inode number 0 for a deleted one, and
``ls -a`` would not show ``.`` in the root. And FUSE calls its root 1 too."""

MTIME_S = 315_532_800
"""Time of every file and directory, 1980-01-01 UTC: a package has no times, images must not differ, and this is the
earliest time that zip files can hold."""

DATA_DEVICE = 1
"""Device id of the data address space; 0 would be the image itself."""

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

COMPACT_INODE = struct.Struct("<HHHHIIIIHHI")
"""format, xattrs, mode, nlink, size, reserved, block or chunk format, ino, uid, gid, reserved."""

EXTENDED_INODE = struct.Struct("<HHHHQIIIIQII16x")
"""format, xattrs, mode, reserved, size, block or chunk format, ino, uid, gid, mtime, its ns, nlink."""

SIZE_AT, NLINK_AT = 8, 44
"""Where an extended inode holds its size, the block number right behind it, and its number of links."""

CHUNK_INDEX = struct.Struct("<HHI")
"""advise, device id, block; right behind its inode, at a multiple of 8."""

SMALL_FILE = struct.Struct(COMPACT_INODE.format + CHUNK_INDEX.format.removeprefix("<") + "24x")
LARGE_FILE = struct.Struct(EXTENDED_INODE.format + CHUNK_INDEX.format.removeprefix("<") + "24x")
"""An inode with its one chunk index, padded to whole slots."""

MAX_COMPACT_BYTES = 2**32 - 1
"""Largest file a 32-byte inode can hold."""

DIRENT = struct.Struct("<QHBB")
"""nid, offset of the name in the block, type, reserved. A block has its entries first, then their names; in a
directory, names are sorted by their bytes, also from block to block, ``.`` and ``..`` among them."""

MAX_INLINE_BYTES = BLOCK_BYTES - COMPACT_INODE.size
"""Longest symbolic link target that fits behind its inode."""

TYPE_FILE, TYPE_DIRECTORY, TYPE_SYMLINK = 1, 2, 7

MODE_OF_TYPE = {TYPE_FILE: stat.S_IFREG, TYPE_DIRECTORY: stat.S_IFDIR, TYPE_SYMLINK: stat.S_IFLNK}

FIRST_ENTRY_INO, FIRST_DIRECTORY_INO = 1, 2**31
"""i_ino (which 64-bit kernels ignore) is this plus the number of the entry, or of the directory."""
