"""Requests of the kernel and answers to them, as they lie in memory (linux/fuse.h)."""

from __future__ import annotations

import struct
from enum import IntEnum


class Opcode(IntEnum):
    """Requests that are answered without pyfuse3, which answers all others."""

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
"""How long the attributes that follow are valid: seconds, nanoseconds, padding."""

ENTRY_OUT = struct.Struct("=QQQQII")
"""Inode, generation, how long name and attributes are valid (seconds twice, nanoseconds twice); attributes follow."""

DIRENT = struct.Struct("=QQII")
"""Inode, offset of the next entry, length of the name, type; the name follows, padded to 8 bytes."""

LARGEST_REQUEST = (1 << 20) + 4096
"""Bytes of the read buffer: the kernel asks for room for the largest WRITE, which never comes."""

NOTE = struct.Struct("=IIQQQQ")
"""A read that a worker reports to the first process, sent like a request: 0, 0, version, entry, offset, length."""
