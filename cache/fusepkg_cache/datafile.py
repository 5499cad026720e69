"""The file LMDB keeps its pages in, looked at without LMDB.

Owns: whether ``data.mdb`` may be mapped at all, and keeping it so. Must not know: what the pages hold.

Touching a mapped page behind the end of its file kills the process with SIGBUS, and LMDB trusts its own page count.
So the file is kept longer than the pages in use at any moment, kill -9 included: it is extended, sparsely, before
a transaction can take more pages (``ensure_length``). A file that is shorter than its pages was cut off by something
else, and is damaged.
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
