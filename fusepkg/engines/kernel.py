"""mount(2), umount(2) and what this kernel can do."""

from __future__ import annotations

import ctypes
import errno
import functools
import logging
import os
import platform
import re
import shutil
import subprocess
import threading
from pathlib import Path

from fusepkg.errors import MountFailed, MountpointBusy, NotMounted

log = logging.getLogger(__name__)

EROFS_KERNEL = (6, 12)
"""First kernel that mounts EROFS straight from a file."""

RESEND_KERNEL = (6, 9)
"""First kernel that asks again what a dead process has left unanswered."""

HIDDEN_PREFIX = "fusepkg-mount-"
"""How the names of mounts below an EROFS mount begin; they are visible for a moment while it starts."""

FUSE_DEVICE = Path("/dev/fuse")

_FUSE_CONNECTIONS = Path("/sys/fs/fuse/connections")

_CAP_SYS_ADMIN = 1 << 21

MNT_DETACH = 2

MS_BIND = 4096

MOVE_MOUNT, FSOPEN, FSCONFIG, FSMOUNT = 429, 430, 431, 432
"""System calls, of the same numbers on all processors."""

CLOSE_ON_EXEC, FSCONFIG_CMD_CREATE = 1, 6


_PR_SET_DUMPABLE = 4

_ANSWER_TIMEOUT_S = 2.0
"""How long a mount may take to answer a question about its root: a daemon does so in milliseconds."""


@functools.cache
def libc() -> ctypes.CDLL:
    """Return the C library; failed calls leave their errno for ``ctypes.get_errno``."""
    return ctypes.CDLL(None, use_errno=True)


def keep_memory_private() -> None:
    """Let no core of this process be written, and no other process of this user look into it: it knows secrets."""
    libc().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def kernel_version() -> tuple[int, int]:
    """Major and minor number of the running kernel."""
    found = re.match(r"(\d+)\.(\d+)", platform.release())
    return (int(found[1]), int(found[2])) if found else (0, 0)


def why_no_fuse() -> str | None:
    """What the ``fuse`` engine lacks here, or None."""
    if not FUSE_DEVICE.exists():
        return "there is no /dev/fuse (load the fuse module; a container needs `--device /dev/fuse`)"
    if not os.access(FUSE_DEVICE, os.R_OK | os.W_OK):
        return "/dev/fuse may not be opened by this user (its mode is 0666 where udev made it)"
    if not may_mount() and fusermount() is None:
        return "fusermount3 is not installed (package fuse3), which mounts for users other than root"
    return None


def why_no_erofs() -> str | None:
    """What the ``erofs`` engine lacks here, or None."""
    if os.geteuid() != 0:
        return "it needs root"
    if not may_mount():
        return "it needs the capability CAP_SYS_ADMIN (a container needs `--cap-add SYS_ADMIN`)"
    if kernel_version() < EROFS_KERNEL:
        return f"it needs Linux {EROFS_KERNEL[0]}.{EROFS_KERNEL[1]} or newer, this is {platform.release()}"
    if not _has_filesystem("erofs"):
        return "this kernel has no erofs module"
    return why_no_fuse()


def may_mount() -> bool:
    """Whether this process may call mount(2) itself; root in a container often may not."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return found is not None and bool(int(found[1], 16) & _CAP_SYS_ADMIN)


def _has_filesystem(name: str) -> bool:
    def listed() -> bool:
        return any(line.split()[-1] == name for line in Path("/proc/filesystems").read_text().splitlines())

    if not listed() and (modprobe := shutil.which("modprobe", path="/sbin:/usr/sbin:/bin:/usr/bin")):
        subprocess.run([modprobe, "-q", name], check=False)
    return listed()


def fusermount() -> str | None:
    """The set-uid helper that mounts and unmounts FUSE for ordinary users."""
    return shutil.which("fusermount3")


def allow_background(fuse_mountpoint: Path, requests: int) -> None:
    """Let the kernel have that many background requests under way on a FUSE mount, where it lets us say so.

    All reads of EROFS, and those ahead of a reader of the ``fuse`` engine, are background requests; of more than FUSE's
    default of 12, the others wait, also those that the cache could answer. Blocks: stat(2) asks the mount itself.
    """
    try:
        number = os.minor(fuse_mountpoint.stat().st_dev)
        connections = _fuse_connections(number)
        try:
            for name, value in (("max_background", requests), ("congestion_threshold", requests * 3 // 4)):
                written = os.open(f"{number}/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=connections)
                try:
                    os.write(written, str(value).encode())
                finally:
                    os.close(written)
        finally:
            os.close(connections)
    except OSError as exc:  # an ordinary user where fusectl is not mounted
        log.info("at most 12 reads can wait for the bucket at a time: %s", exc)


def _fuse_connections(number: int) -> int:
    """Open fusectl's directory: as it is mounted, or else as a mount of our own that is nowhere in the tree."""
    if (_FUSE_CONNECTIONS / str(number)).exists():
        return os.open(_FUSE_CONNECTIONS, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    context = system_call(FSOPEN, b"fusectl", CLOSE_ON_EXEC)
    try:
        system_call(FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0)
        return system_call(FSMOUNT, context, CLOSE_ON_EXEC, 0)
    finally:
        os.close(context)


def system_call(number: int, *arguments: bytes | int | None) -> int:
    """Make a system call that libc has no function for everywhere. Raises OSError."""
    words = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result: int = libc().syscall(ctypes.c_long(number), *words)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def bind(mountpoint: Path, target: Path) -> None:
    """Show what is mounted at one directory at another one too, with the same restrictions. Raises MountFailed."""
    if libc().mount(bytes(mountpoint), bytes(target), None, ctypes.c_ulong(MS_BIND), None):
        reason = os.strerror(ctypes.get_errno())
        raise MountFailed(
            f"{mountpoint} cannot be shown at {target}: {reason}",
            hint="That takes root and the capability CAP_SYS_ADMIN",
        )


def is_dead(mountpoint: Path) -> bool:
    """Return whether the kernel says that a mount's process is gone. Asks in a thread: a stopped one never answers."""
    answers: list[int] = []

    def ask() -> None:
        try:
            os.statvfs(mountpoint)
        except OSError as exc:
            answers.append(exc.errno or 0)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_ANSWER_TIMEOUT_S)
    return answers == [errno.ENOTCONN]


def detach(mountpoint: Path) -> None:
    """Take a mount out of sight at once; it ends when its last user is gone. Does nothing where none is."""
    if libc().umount2(bytes(mountpoint), MNT_DETACH) and (number := ctypes.get_errno()) != errno.EINVAL:
        raise MountFailed(f"detaching {mountpoint} failed: {os.strerror(number)}")


def unmount(mountpoint: Path, *, lazy: bool = False) -> None:
    """Unmount as the user who asks may: umount2(2) for root, fusermount3 for others.

    Raises: MountpointBusy, NotMounted, MountFailed.
    """
    if os.geteuid() != 0:
        _unmount_as_user(mountpoint, lazy=lazy)
        return
    if libc().umount2(bytes(mountpoint), MNT_DETACH if lazy else 0) == 0:
        return
    number = ctypes.get_errno()
    if number == errno.EBUSY:
        raise _busy(mountpoint)
    if number in (errno.EINVAL, errno.ENOENT):
        raise NotMounted(f"nothing is mounted at {mountpoint}")
    raise MountFailed(f"unmounting {mountpoint} failed: {os.strerror(number)}")


def _unmount_as_user(mountpoint: Path, *, lazy: bool) -> None:
    helper = fusermount()
    if helper is None:
        raise MountFailed("fusermount3 is not installed", hint="Install the package fuse3")
    command = [helper, "-u", *(["-z"] if lazy else []), "--", str(mountpoint)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    if "busy" in done.stderr:
        raise _busy(mountpoint)
    if "not found" in done.stderr or "not mounted" in done.stderr:
        raise NotMounted(f"nothing of yours is mounted at {mountpoint}")
    raise MountFailed(f"unmounting {mountpoint} failed: {done.stderr.strip()}")


def _busy(mountpoint: Path) -> MountpointBusy:
    return MountpointBusy(
        f"{mountpoint} is in use",
        hint="End the programs that use it (`lsof +f -- DIR` lists them, mind your own shell's directory), "
        "or take it out of sight now with --lazy",
    )
