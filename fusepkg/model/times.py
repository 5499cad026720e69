"""The modification times that mounts and installs show: derived from content, because a package keeps no times.

Programs take a file for unchanged if name, size and time are the same. So other content must have another time, and
equal content the same one in every version, bucket and machine. Times are whole, even seconds, as zip files and FAT
can hold them, from a range of 30 years that ended before fusepkg's first release: older than anything made from them.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

from fusepkg_cache.digest import CRC_BYTES, MD5_BYTES, MIN_CHUNK_BYTES, Algorithm, combine_chunks

from fusepkg.errors import UsageError

if TYPE_CHECKING:
    from fusepkg.model.entry import Entry

FIRST_S = 631_152_000
"""Earliest content time, 1990-01-01 00:00:00 UTC."""

END_S = 1_577_836_800
"""All content times are before this, 2020-01-01 00:00:00 UTC."""

FIXED_S = 315_532_800
"""The one time of ``--times fixed``, 1980-01-01 00:00:00 UTC: the earliest that zip files can hold."""

TIMES = ("content", "fixed", "now")
"""What ``--times`` can choose: a time per content, or one for all files: 1980-01-01, or the time of the command."""

_STEP_S = 2
_TIMES = (END_S - FIRST_S) // _STEP_S

# Looked up once: an index asks a million times.
_CHUNKED = Algorithm.SHA2_256_CHUNKED
_PLAIN = Algorithm.SHA2_256
_EMPTY = combine_chunks([]).value


def check_times(times: str) -> None:
    """Raise UsageError for what ``--times`` cannot choose."""
    if times not in TIMES:
        raise UsageError(f"there are no times {times!r}", hint="Times are content, fixed and now")


def one_time_s(times: str) -> int | None:
    """Return the one time of all files and directories, None for a time per content. ``times`` is one of ``TIMES``."""
    return {"content": None, "fixed": FIXED_S, "now": int(time.time())}[times]


def content_time_s(algorithm: Algorithm, value: bytes, size: int) -> int:
    """Return the time of a blob with this raw hash, in seconds since 1970.

    Up to 8 MiB the two SHA-256 hashes give one time. Otherwise each kind of hash gives its own.
    """
    if algorithm is _PLAIN:
        if size == 0:
            value = _EMPTY
        elif size <= MIN_CHUNK_BYTES:
            value = hashlib.sha256(value).digest()  # its sha2-256-chunked value
    elif algorithm is not _CHUNKED:
        value = hashlib.sha256(value[: CRC_BYTES if algorithm is Algorithm.CRC64NVME else MD5_BYTES]).digest()
    return FIRST_S + int.from_bytes(value[:8], "big") % _TIMES * _STEP_S


def entry_time_s(entry: Entry) -> int:
    """Return the time of a file or symbolic link, in seconds since 1970."""
    return content_time_s(entry.digest.algorithm, entry.digest.value, entry.size)


def directory_time_s(children: bytes | bytearray) -> int:
    """Return the time of a directory, in seconds since 1970.

    ``children`` describes all names in it, in order, with the time of each. So it changes with anything below.
    """
    return FIRST_S + int.from_bytes(hashlib.sha256(children).digest()[:8], "big") % _TIMES * _STEP_S
