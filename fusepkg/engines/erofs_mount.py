"""Mounting EROFS from two files: at an empty directory, or in the place of another one while programs use it."""

from __future__ import annotations

import ctypes
import errno
import os
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg.engines.kernel import (
    CLOSE_ON_EXEC,
    FSCONFIG,
    FSCONFIG_CMD_CREATE,
    FSMOUNT,
    FSOPEN,
    MNT_DETACH,
    MOVE_MOUNT,
    libc,
    system_call,
)
from fusepkg.errors import EngineUnavailable, MountFailed

if TYPE_CHECKING:
    from collections.abc import Callable

_READ_ONLY, _NO_SUID, _NO_DEVICES = 1, 2, 4
"""Flags of mount(2), and attributes of fsmount(2)."""

_CLONE_FS = 0x200

_SET_FLAG, _SET_STRING = 0, 1
"""What fsconfig(2) sets."""

_EMPTY_PATH, _BENEATH = 0x4, 0x200
"""move_mount(2): the mount is given by its descriptor alone; it goes beneath what is mounted there."""

_MOST_BYTES = 255
"""Of a value for fsconfig(2)."""

_PLAIN_NAME = "image"
"""What the source of a mount is called whose package has no name that a file can have."""


@dataclass(frozen=True, slots=True)
class ErofsDevice:
    """An EROFS image whose files' bytes lie in ``data`` (None: in itself); ``name`` is what df(1) shows as the source.

    ``scratch`` is a directory for a link of that name, which is there while the image is mounted.
    """

    image: Path
    data: Path | None
    name: str
    scratch: Path


def mount_erofs(device: ErofsDevice, mountpoint: Path) -> None:
    """Mount an EROFS image. Blocks: the kernel reads both files while it mounts.

    Raises: EngineUnavailable where this kernel or container cannot mount EROFS from a file, MountFailed otherwise.
    """

    def mount(source: str) -> None:
        flags = _READ_ONLY | _NO_SUID | _NO_DEVICES
        options = "" if device.data is None else f"device={device.data}"
        if libc().mount(os.fsencode(source), bytes(mountpoint), b"erofs", flags, os.fsencode(options)):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    _with_named_source(device, mount, mountpoint)


def exchange_erofs(device: ErofsDevice, mountpoint: Path, top: int) -> None:
    """Mount an EROFS image in the place of the mount that is there, in one step. Blocks as ``mount_erofs`` does.

    ``top`` is a descriptor (O_PATH) of that mount's root. It leaves the tree, and ends when its last file is closed.
    Raises as ``mount_erofs``; then everything is as it was.
    """

    def mount(source: str) -> None:
        mounted = _detached_erofs(source, device.data)
        try:
            place = ctypes.c_char_p(bytes(mountpoint))
            here = -100  # AT_FDCWD
            system_call(MOVE_MOUNT, mounted, b"", here, place.value, _EMPTY_PATH | _BENEATH)
        finally:
            os.close(mounted)
        # By its descriptor: if it has been unmounted meanwhile, the one that is visible now is ours, and stays.
        if libc().umount2(f"/proc/self/fd/{top}".encode(), MNT_DETACH) and ctypes.get_errno() != errno.EINVAL:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    _with_named_source(device, mount, mountpoint)


def _detached_erofs(source: str, data: Path | None) -> int:
    """Return a descriptor of a mount that is nowhere in the tree."""
    context = system_call(FSOPEN, b"erofs", CLOSE_ON_EXEC)
    try:
        system_call(FSCONFIG, context, _SET_STRING, b"source", os.fsencode(source), 0)
        if data is not None:
            system_call(FSCONFIG, context, _SET_STRING, b"device", os.fsencode(data), 0)
        system_call(FSCONFIG, context, _SET_FLAG, b"ro", None, 0)
        system_call(FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0)
        return system_call(FSMOUNT, context, CLOSE_ON_EXEC, _READ_ONLY | _NO_SUID | _NO_DEVICES)
    finally:
        os.close(context)


def _with_named_source(device: ErofsDevice, mount: Callable[[str], None], mountpoint: Path) -> None:
    """Call ``mount`` with a path to the image that is called as the package is: the kernel shows the path it is given.

    It is relative to the working directory of a thread of its own; the process's own stays.
    """
    failures: list[OSError] = []

    def work(directory: str, source: str) -> None:
        try:
            if libc().unshare(_CLONE_FS):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            os.chdir(directory)
            mount(source)
        except OSError as exc:
            failures.append(exc)

    with tempfile.TemporaryDirectory(prefix="fusepkg-", dir=device.scratch) as directory:
        thread = threading.Thread(target=work, args=(directory, _link(device, Path(directory))))
        thread.start()
        thread.join()
    for failure in failures:
        raise _explained(failure, mountpoint) from failure


def _link(device: ErofsDevice, directory: Path) -> str:
    """Make a link to the image below ``directory``, named as the package if a file can be; return its path.

    It is relative to the directory only if the name is the package's.
    """
    parts = device.name.split("/")
    is_usual = device.name.isprintable() and not device.name.startswith("/") and not set(parts) & {".", ".."}
    if is_usual and len(os.fsencode(device.name)) <= _MOST_BYTES:
        link = directory / device.name
        try:
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(device.image)
        except OSError:  # a part that is too long
            pass
        else:
            return device.name
    link = directory / _PLAIN_NAME
    link.symlink_to(device.image)
    return str(link)


def _explained(error: OSError, mountpoint: Path) -> MountFailed | EngineUnavailable:
    what = f"mounting erofs at {mountpoint} failed: {error.strerror}"
    hint = "See dmesg for the kernel's reason; `--engine fuse` works without erofs"
    if error.errno in (errno.ENOTBLK, errno.ENODEV, errno.EINVAL, errno.EPERM, errno.EACCES):
        return EngineUnavailable(what, hint=hint)
    return MountFailed(what, hint=hint)
