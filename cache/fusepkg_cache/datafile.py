"""The two files of LMDB, looked at without LMDB.

Owns: whether they may be mapped at all, and keeping them so. Must not know: what their pages hold.

Touching a mapped page behind the end of its file kills the process with SIGBUS, and LMDB trusts its own page count.
So ``data.mdb`` is kept longer than the pages in use at any moment, kill -9 included: it is extended, sparsely, before
a transaction can take more pages (``ensure_length``). A file that is shorter than its pages was cut off by something
else, and is damaged.

Writing to a mapped page that has no block on the disk yet kills as well, once the disk is full. LMDB writes so only to
``lock.mdb``, which therefore gets its blocks before it is opened (``reserve_lock_file``).
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# struct MDB_page's header, then struct MDB_meta: magic, version, address, map size, two MDB_db of 48 bytes (the first
# begins with the page size), last page, transaction. Data format 1, which LMDB 0.9 writes, on 64-bit machines.
_META = struct.Struct("=16x II QQ I44x 48x QQ")
_MAGIC = 0xBEEFC0DE
_DATA_FORMAT = 1
_MIN_PAGE_BYTES, _MAX_PAGE_BYTES = 256, 65536

_SLOT_BYTES = 64
"""A cache line: what LMDB takes for each reader in its lock file."""

_LOCK_HEADER_SLOTS = 4
"""Room before the readers, in slots; LMDB needs three or less and gives readers what is left."""

STEP_BYTES = 256 * 1024 * 1024
"""By how much the file grows: several times what one transaction can take (16 MiB of values, see ``commits``),
and holes cost no disk."""


def fault(path: Path) -> str | None:
    """What is wrong with the data file, in words; None where it is sound as far as can be seen, new, or missing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        head = os.pread(descriptor, _META.size, 0)
        if not head:
            return None  # a process was killed before it wrote anything: LMDB begins anew
        if len(head) < _META.size:
            return "it is too short for its first page"
        magic, version, _, _, page_bytes, last_page, _ = _META.unpack(head)
        if magic != _MAGIC:
            return "it does not begin as an LMDB file does"
        if version != _DATA_FORMAT:
            return f"it has data format {version}, not {_DATA_FORMAT}"
        if not _MIN_PAGE_BYTES <= page_bytes <= _MAX_PAGE_BYTES:
            return f"it claims pages of {page_bytes} bytes"
        second = os.pread(descriptor, _META.size, page_bytes)
        if len(second) == _META.size:
            last_page = max(last_page, _META.unpack(second)[5])
        size = os.fstat(descriptor).st_size  # after the page count was read: it only ever grows
    finally:
        os.close(descriptor)
    if size < (last_page + 1) * page_bytes:
        return f"it has {size} bytes for {last_page + 1} pages of {page_bytes}"
    return None


def ensure_length(path: Path, used_bytes: int) -> None:
    """Keep the file at least a step longer than ``used_bytes``. Only under LMDB's write lock."""
    size = path.stat().st_size
    if size < used_bytes + STEP_BYTES:
        os.truncate(path, used_bytes + 2 * STEP_BYTES)


def reserve_lock_file(path: Path, readers: int) -> None:
    """Give the lock file its length and its blocks. Never while this process has the environment open.

    Closing any descriptor of the file drops all locks the process has on it, and LMDB's locks are among those.
    """
    length = (readers + _LOCK_HEADER_SLOTS) * _SLOT_BYTES
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(descriptor).st_blocks * 512 < length:
            os.posix_fallocate(descriptor, 0, length)
    finally:
        os.close(descriptor)
