"""Requests of the kernel and answers to them, as they lie in memory (linux/fuse.h)."""

from __future__ import annotations

import struct
from enum import IntEnum


class Opcode(IntEnum):
    """What the kernel asks that is answered here; pyfuse3 knows the others."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    READLINK = 5
    OPEN = 14
    READ = 15
    OPENDIR = 27
    RELEASEDIR = 29
    IOCTL = 39
    BATCH_FORGET = 42
    READDIRPLUS = 44


REQUEST = struct.Struct("=IIQQIIIHH")
"""Length, opcode, number, inode, user, group, process, extensions, padding."""

ANSWER = struct.Struct("=IiQ")
"""Length, errno (negative), number of the request."""

READ_IN = struct.Struct("=QQI")
"""Start of READ and READDIRPLUS: handle, offset, length."""

HANDLE = struct.Struct("=Q")
COUNT = struct.Struct("=Q")
"""Of a FORGET."""

BATCH = struct.Struct("=II")
FORGOTTEN = struct.Struct("=QQ")
"""How many there are in a BATCH_FORGET, and each: inode, lookups."""

OPEN_OUT = struct.Struct("=QIi")
"""Handle, flags, nothing."""

KEEP_CACHE, CACHE_DIR = 1 << 1, 1 << 3
"""Flags of an opened file or directory."""

ATTRIBUTES = struct.Struct("=6Q10I")
"""Inode, size, blocks, three times, their nanoseconds, mode, links, user, group, device, block size, flags."""

ATTR_OUT = struct.Struct("=QII")
"""How long attributes are valid, which follow."""

ENTRY_OUT = struct.Struct("=QQQQII")
"""Inode, generation, how long name and attributes are valid (seconds twice, nanoseconds twice); attributes follow."""

DIRENT = struct.Struct("=QQII")
"""Inode, where to go on, length of the name, type; the name follows, padded to 8 bytes."""

LARGEST_REQUEST = (1 << 20) + 4096
"""The kernel wants room for the largest WRITE there could be."""

NOTE = struct.Struct("=IIQQQQ")
"""Of one of our processes to another, in the place of a request: 0, 0, version, entry, offset, length of a read."""
