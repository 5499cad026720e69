"""The one table from what the disk and LMDB raise to what the cache raises.

Owns: which errno and which LMDB error means which ``CacheUnusable``. Must not know: what was being done, beyond the
words the caller gives.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import lmdb

from fusepkg_cache.errors import CacheFull, CacheReadOnly, CacheUnusable

if TYPE_CHECKING:
    from collections.abc import Iterator

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})

DAMAGE = (
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
    lmdb.PageNotFoundError,
    lmdb.IncompatibleError,
    lmdb.CursorFullError,
    lmdb.PageFullError,
    lmdb.BadTxnError,  # also the first a transaction says of a table whose root page is garbage
)
"""What LMDB raises where its file makes no sense: nothing in it can be trusted any longer."""


def unusable(exc: OSError | lmdb.Error, doing: str) -> CacheUnusable:
    """The error to raise for ``exc``, met while ``doing``."""
    if isinstance(exc, lmdb.Error):
        number, reason = getattr(exc, "code", 0), str(exc)  # MDB_... codes are negative
        if isinstance(exc, lmdb.MapFullError):
            number = errno.ENOSPC
    else:
        number, reason = exc.errno or 0, os.strerror(exc.errno) if exc.errno else str(exc)
    if number == errno.ENODEV:
        return CacheUnusable(
            f"{doing}: its file system cannot map files", hint="Name a directory on a local file system"
        )
    message = f"{doing}: {reason}"
    if number in FULL:
        return CacheFull(message, hint="Make room on the disk, or clear the cache")
    if number in READ_ONLY:
        return CacheReadOnly(message, hint="Give the directory back its write permission, or name another one")
    if number == errno.ENOMEM:
        return CacheUnusable(message, hint="It needs 1 TiB of addresses, not of memory: lift the limit (`ulimit -v`)")
    if number == errno.EIO:
        return CacheUnusable(message, hint="See what the kernel says of that disk (`dmesg`), or name another directory")
    return CacheUnusable(message)


def hanging(waited_s: float) -> CacheUnusable:
    """The error where no transaction could be made for so long."""
    return CacheUnusable(
        f"the cache could not be changed for {waited_s:.0f} s: a process was stopped while it did, or the disk hangs",
        hint="Let that process go on, or end it: `ps x` shows T as the state of those that were stopped",
    )


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn what the disk and LMDB raise inside the block into a ``CacheUnusable`` that says it was met ``doing``."""
    try:
        yield
    except (OSError, lmdb.Error) as exc:
        raise unusable(exc, doing) from exc
