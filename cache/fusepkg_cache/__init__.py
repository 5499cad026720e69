"""A content-addressed cache of verified blobs, shared by all processes of a machine; see cache/README.md."""

from __future__ import annotations

from fusepkg_cache.cache import SMALL_LIMIT_BYTES, Cache, Cleared
from fusepkg_cache.claims import Claim, ClaimedBatch
from fusepkg_cache.digest import Algorithm, Digest, Verified, compute_digest, verified
from fusepkg_cache.errors import (
    BlobTooLarge,
    CacheClosed,
    CacheError,
    CacheFull,
    CacheReadOnly,
    CacheUnusable,
    WrongBytes,
)
from fusepkg_cache.info import CacheInfo
from fusepkg_cache.lower_cache import LowerCache
from fusepkg_cache.pins import Pin
from fusepkg_cache.plain import PlainFiles
from fusepkg_cache.temporary_blob import TemporaryBlob
from fusepkg_cache.verify import VerifyReport

__all__ = [
    "SMALL_LIMIT_BYTES",
    "Algorithm",
    "BlobTooLarge",
    "Cache",
    "CacheClosed",
    "CacheError",
    "CacheFull",
    "CacheInfo",
    "CacheReadOnly",
    "CacheUnusable",
    "Claim",
    "ClaimedBatch",
    "Cleared",
    "Digest",
    "LowerCache",
    "Pin",
    "PlainFiles",
    "TemporaryBlob",
    "Verified",
    "VerifyReport",
    "WrongBytes",
    "compute_digest",
    "verified",
]
