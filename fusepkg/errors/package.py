"""Packages, versions, entries and manifests that are missing or cannot be used."""

from __future__ import annotations

from fusepkg.errors.base import FusepkgError


class PackageError(FusepkgError):
    """A package, version or entry does not exist, or its manifest cannot be used."""

    code = "package"
    exit_code = 3


class BucketNotFound(PackageError):
    """The bucket or the local registry does not exist."""

    code = "package.bucket_not_found"


class PackageNotFound(PackageError):
    """The bucket holds no package of that name."""

    code = "package.not_found"


class TagNotFound(PackageError):
    """The package has no such tag."""

    code = "package.tag_not_found"


class HashNotFound(PackageError):
    """No version of the package has a top hash with this beginning."""

    code = "package.hash_not_found"


class HashAmbiguous(PackageError):
    """Several versions of the package have a top hash with this beginning."""

    code = "package.hash_ambiguous"


class EntryNotFound(PackageError, KeyError):
    """The package has no entry of that logical key."""

    code = "package.entry_not_found"


class TagConflict(PackageError):
    """Another publisher moved the tag first."""

    code = "package.tag_conflict"
    exit_code = 8


class ManifestInvalid(PackageError):
    """The manifest breaks a rule of the format; ``line`` is the offending line, counted from 1 (0: the whole)."""

    code = "package.manifest_invalid"
    exit_code = 9

    def __init__(self, message: str, *, line: int = 0, hint: str = "") -> None:
        super().__init__(f"manifest line {line}: {message}" if line else f"manifest: {message}", hint=hint)
        self.line = line


class UnsupportedFormat(PackageError):
    """A manifest, index or hash of a kind this version does not know."""

    code = "package.unsupported_format"
    exit_code = 9


class PackTableInvalid(PackageError):
    """The table of a version's packs is damaged, or of another version; its objects are read instead."""

    code = "package.pack_table_invalid"
    exit_code = 9


class RepositoryUnfit(PackageError):
    """A git or DVC repository, or a file in it, does not say what it has to, or says what fusepkg cannot read."""

    code = "package.repository_unfit"
    exit_code = 9
