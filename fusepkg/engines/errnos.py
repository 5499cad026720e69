"""Every error's errno and log level: the one table, total over ``FusepkgError``.

EIO is what programs expect of bytes that cannot be had; a package entry whose object is gone is corruption, not
absence, so it is EIO and not ENOENT.
"""

from __future__ import annotations

import errno
import logging

from fusepkg import errors

ERRNOS: dict[type[errors.FusepkgError], tuple[int, int]] = {
    errors.FusepkgError: (errno.EIO, logging.ERROR),
    errors.UsageError: (errno.EINVAL, logging.ERROR),
    errors.PackageError: (errno.EIO, logging.ERROR),
    errors.PublishError: (errno.EIO, logging.ERROR),
    # The fetch path has logged these once, with the names of entry and object.
    errors.RemoteError: (errno.EIO, logging.DEBUG),
    errors.AccessDenied: (errno.EACCES, logging.DEBUG),
    errors.RemoteTimeout: (errno.ETIMEDOUT, logging.DEBUG),
    errors.DigestMismatch: (errno.EIO, logging.DEBUG),
    errors.IntegrityError: (errno.EIO, logging.ERROR),
    errors.CacheFailure: (errno.EIO, logging.DEBUG),
    errors.MountError: (errno.EIO, logging.ERROR),
    errors.ControlError: (errno.EIO, logging.ERROR),
    errors.TaskError: (errno.EIO, logging.ERROR),
    # Ordinary negative answers.
    errors.FsError: (errno.EIO, logging.ERROR),
    errors.NoEntry: (errno.ENOENT, logging.DEBUG),
    errors.NotADirectory: (errno.ENOTDIR, logging.DEBUG),
    errors.IsADirectory: (errno.EISDIR, logging.DEBUG),
    errors.NotASymlink: (errno.EINVAL, logging.DEBUG),
    errors.NoAttribute: (errno.ENODATA, logging.DEBUG),
    errors.BadHandle: (errno.EBADF, logging.WARNING),
    errors.ReadOnly: (errno.EROFS, logging.DEBUG),
    errors.NameTooLong: (errno.ENAMETOOLONG, logging.DEBUG),
    errors.InvalidArgument: (errno.EINVAL, logging.DEBUG),
}


def errno_of(error: BaseException) -> tuple[int, int]:
    """errno and log level of an error; the most specific row wins, anything unknown is EIO and an ERROR."""
    for kind in type(error).__mro__:
        if kind in ERRNOS:
            return ERRNOS[kind]
    return errno.EIO, logging.ERROR


def worst(error: BaseException) -> BaseException:
    """The one error to answer with when several reads of one request failed side by side (a trio nursery's group).

    Nested groups are flattened; an error of no known kind comes first, then the first of the others.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [worst(inner) for inner in error.exceptions]
    return next((leaf for leaf in leaves if not isinstance(leaf, errors.FusepkgError)), leaves[0])
