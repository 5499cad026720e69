"""Bytes that do not have the hash they should have."""

from __future__ import annotations

from fusepkg.errors.base import FusepkgError


class IntegrityError(FusepkgError):
    """Bytes do not have the hash they should have."""

    code = "integrity"
    exit_code = 6


class DigestMismatch(IntegrityError):
    """An object's bytes do not hash to what the manifest says."""

    code = "integrity.digest_mismatch"


class IndexDamaged(IntegrityError):
    """The local index of a package fails its checksums."""

    code = "integrity.index_damaged"
