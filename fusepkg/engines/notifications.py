"""What a FUSE server tells the kernel unasked: small messages that are written to /dev/fuse."""

from __future__ import annotations

import errno
import os
import struct
from contextlib import suppress

_HEADER = struct.Struct("=IiQ")
"""Length of the message, code, and 0 where a reply has the request's number."""

_INVAL_INODE, _INVAL_ENTRY, _RESEND, _INC_EPOCH = 2, 3, 7, 8

_ATTRIBUTES_ONLY = -1


def forget_all_names(device: int) -> bool:
    """Make the kernel ask again for every name it knows, in one step. Never blocks.

    Returns False on kernels that cannot do so (before Linux 6.16).
    """
    try:
        _tell(device, _INC_EPOCH)
    except OSError as exc:
        if exc.errno in (errno.EINVAL, errno.ENOSYS):
            return False
        raise
    return True


def forget_name(device: int, parent: int, name: bytes) -> None:
    """Make the kernel forget one name in a directory, and let go of what lies below it and is not in use.

    Returns after all lookups and listings of that directory that are under way. So call it in a thread.
    """
    try:
        os.write(device, forget_name_message(parent, name))
    except OSError as exc:
        check_forgotten(exc.errno or errno.EIO)


def forget_name_message(parent: int, name: bytes) -> bytes:
    """Return what ``forget_name`` writes."""
    return _message(_INVAL_ENTRY, struct.pack("=QII", parent, len(name), 0), name, b"\0")


def check_forgotten(number: int) -> None:
    """Raise OSError for an errno that writing it gave; not for names and directories that the kernel does not know."""
    if number not in (0, errno.ENOENT, errno.ENOTDIR):
        raise OSError(number, os.strerror(number))


def forget_attributes(device: int, inode: int) -> None:
    """Make the kernel ask again for the attributes of an inode."""
    with suppress(FileNotFoundError):
        _tell(device, _INVAL_INODE, struct.pack("=Qqq", inode, _ATTRIBUTES_ONLY, 0))


def ask_again(device: int) -> None:
    """Make the kernel send all requests again that were read and not answered (Linux 6.9)."""
    _tell(device, _RESEND)


def _tell(device: int, code: int, *parts: bytes) -> None:
    os.write(device, _message(code, *parts))


def _message(code: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return _HEADER.pack(_HEADER.size + len(body), code, 0) + body
