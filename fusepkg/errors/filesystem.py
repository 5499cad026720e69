"""File-system calls of a mount that failed."""

from __future__ import annotations

from fusepkg.errors.base import FusepkgError


class FsError(FusepkgError):
    """A file-system call failed."""

    code = "fs"


class NoEntry(FsError):
    """No such file or directory."""

    code = "fs.no_entry"


class NotADirectory(FsError):
    """A directory was needed."""

    code = "fs.not_a_directory"


class IsADirectory(FsError):
    """A file was needed."""

    code = "fs.is_a_directory"


class NotASymlink(FsError):
    """A symbolic link was needed."""

    code = "fs.not_a_symlink"


class NoAttribute(FsError):
    """No such extended attribute."""

    code = "fs.no_attribute"


class BadHandle(FsError):
    """The mount has no such inode or handle."""

    code = "fs.bad_handle"


class ReadOnly(FsError):
    """Packages cannot be written to."""

    code = "fs.read_only"


class NameTooLong(FsError):
    """A name is longer than 255 bytes."""

    code = "fs.name_too_long"


class InvalidArgument(FsError):
    """An offset or length is invalid."""

    code = "fs.invalid_argument"
