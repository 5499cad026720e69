"""Every error the cache raises, as one tree.

    CacheError
      WrongBytes       the bytes given are not the bytes named
      CacheUnusable        go on without the cache
        CacheFull          no room on the disk, in a quota
          BlobTooLarge     larger than the bound of the cache
        CacheReadOnly      the directory cannot be written to
        CacheClosed        ``close`` was called

A blob that is not there, or no longer whole, is no error: ``get`` and ``read`` answer None.
"""

from __future__ import annotations

from typing import ClassVar


class CacheError(Exception):
    """Base of all errors of the cache: ``message`` says what happened to which object, ``hint`` what to do next."""

    code: ClassVar[str] = "cache"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


class WrongBytes(CacheError):
    """The bytes given do not hash to the digest given with them; nothing was stored."""

    code = "cache.digest_mismatch"


class CacheUnusable(CacheError):
    """The directory cannot serve as a cache, or not for this call; the caller can go on without it."""

    code = "cache.unusable"


class CacheFull(CacheUnusable):
    """The disk or a quota has no room left."""

    code = "cache.full"


class BlobTooLarge(CacheFull):
    """The blob alone is larger than the cache may be; others fit."""

    code = "cache.blob_too_large"


class CacheReadOnly(CacheUnusable):
    """The directory cannot be written to."""

    code = "cache.read_only"


class CacheClosed(CacheUnusable):
    """The cache object was closed."""

    code = "cache.closed"
