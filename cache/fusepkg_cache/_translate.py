"""The one table from what the disk raises to what the cache raises: which errno is which ``CacheUnusable``."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fusepkg_cache.errors import CacheFull, CacheReadOnly, CacheUnusable

if TYPE_CHECKING:
    from collections.abc import Iterator

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


def unusable(exc: OSError, doing: str) -> CacheUnusable:
    """The error to raise for ``exc``, met while ``doing``."""
    number, reason = exc.errno or 0, os.strerror(exc.errno) if exc.errno else str(exc)
    message = f"{doing}: {reason}"
    if number in FULL:
        return CacheFull(message, hint="Make room on the disk, or clear the cache")
    if number in READ_ONLY:
        return CacheReadOnly(message, hint="Give the directory back its write permission, or name another one")
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
    """Turn what the disk raises inside the block into a ``CacheUnusable`` that says it was met ``doing``."""
    try:
        yield
    except OSError as exc:
        raise unusable(exc, doing) from exc
