"""What root's process of a mount gives up before it does anything: capabilities that no mount needs, and new rights."""

from __future__ import annotations

import ctypes
import logging
import os
import struct

from fusepkg.engines.kernel import libc

log = logging.getLogger(__name__)

KEPT = {
    "CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_DAC_READ_SEARCH": 2, "CAP_FOWNER": 3, "CAP_FSETID": 4, "CAP_KILL": 5,
    "CAP_SETGID": 6, "CAP_SETUID": 7, "CAP_SYS_ADMIN": 21, "CAP_SYS_RESOURCE": 24,
}  # fmt: skip
"""CAP_SYS_ADMIN mounts and unmounts. The others are for files of any owner, and for credential programs that become
another user."""

_KEPT_BITS = sum(1 << number for number in KEPT.values())

_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4

_PR_SET_NO_NEW_PRIVS = 38

_MOST = 64
"""Numbers of capabilities end before."""

_HEADER = struct.Struct("=Ii")
_VERSION_3 = 0x20080522
_SETS = struct.Struct("=6I")
"""Effective, permitted and inheritable, their low halves and then their high halves."""


def drop_privileges() -> None:
    """Give up, for this process and all it starts, every capability of root's but ``KEPT``, and rights by programs.

    Root only: another user's mount ends by fusermount3, which is setuid. Must be called while the process has one
    thread: each has its own. What cannot be given up is kept, with a line in the log.
    """
    if os.geteuid() != 0:
        return
    try:
        _drop()
        _check(libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    except (OSError, AttributeError) as exc:  # a C library without these calls, a filter on system calls
        log.info("privileges are kept: %s", exc)


def _drop() -> None:
    header = ctypes.create_string_buffer(_HEADER.pack(_VERSION_3, 0))
    sets = ctypes.create_string_buffer(_SETS.size)
    _check(libc().capget(header, sets))
    for number in range(_MOST):
        if not _KEPT_BITS >> number & 1 and libc().prctl(_PR_CAPBSET_READ, number, 0, 0, 0) == 1:
            _check(libc().prctl(_PR_CAPBSET_DROP, number, 0, 0, 0))
    libc().prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    halves = (_KEPT_BITS & 0xFFFFFFFF,) * 3 + (_KEPT_BITS >> 32,) * 3
    left = [had & kept for had, kept in zip(_SETS.unpack_from(sets), halves, strict=True)]
    _check(libc().capset(header, ctypes.create_string_buffer(_SETS.pack(*left))))


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
