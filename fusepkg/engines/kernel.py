"""mount(2), umount(2) and what this kernel can do.

Owns: the system calls around mounts, and the facts that decide which engine can run. Must not know: packages, pyfuse3.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from fusepkg.errors import EngineUnavailable, MountFailed, MountpointBusy, NotMounted

EROFS_KERNEL = (6, 12)
"""First kernel that mounts EROFS straight from a file."""

HIDDEN_PREFIX = "fusepkg-mount-"
"""How the names of mounts below an EROFS mount begin; they are visible for a moment while it starts."""

FUSE_DEVICE = Path("/dev/fuse")

_FUSE_CONNECTIONS = Path("/sys/fs/fuse/connections")

_CAP_SYS_ADMIN = 1 << 21

_MS_RDONLY, _MS_NOSUID, _MS_NODEV = 1, 2, 4
_MNT_DETACH = 2


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


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

    EROFS reads in the background only, and FUSE's default is 12. Blocks: stat(2) asks the mount itself.
    """
    connection = _FUSE_CONNECTIONS / str(os.minor(fuse_mountpoint.stat().st_dev))
    with contextlib.suppress(OSError):  # fusectl is not mounted everywhere; then reads are a little less parallel
        (connection / "max_background").write_text(str(requests))
        (connection / "congestion_threshold").write_text(str(requests * 3 // 4))


def mount_erofs(image: Path, data: Path, mountpoint: Path) -> None:
    """Mount an EROFS image whose files' bytes lie in ``data``. Blocks: the kernel reads both while it mounts.

    Raises: EngineUnavailable where this kernel cannot mount EROFS from a file, MountFailed otherwise.
    """
    options = f"device={data}".encode()
    if _libc().mount(bytes(image), bytes(mountpoint), b"erofs", _MS_RDONLY | _MS_NOSUID | _MS_NODEV, options) == 0:
        return
    number = ctypes.get_errno()
    what = f"mounting erofs at {mountpoint} failed: {os.strerror(number)}"
    if number in (errno.ENOTBLK, errno.ENODEV, errno.EINVAL):
        raise EngineUnavailable(what, hint="See dmesg; `--engine fuse` works without erofs")
    raise MountFailed(what, hint="See dmesg for the kernel's reason; `--engine fuse` works without erofs")


def detach(mountpoint: Path) -> None:
    """Take a mount out of sight at once; it ends when its last user is gone. Does nothing where none is."""
    if _libc().umount2(bytes(mountpoint), _MNT_DETACH) and (number := ctypes.get_errno()) != errno.EINVAL:
        raise MountFailed(f"detaching {mountpoint} failed: {os.strerror(number)}")


def unmount(mountpoint: Path, *, lazy: bool = False) -> None:
    """Unmount as the user who asks may: umount2(2) for root, fusermount3 for others.

    Raises: MountpointBusy, NotMounted, MountFailed.
    """
    if os.geteuid() != 0:
        _unmount_as_user(mountpoint, lazy=lazy)
        return
    if _libc().umount2(bytes(mountpoint), _MNT_DETACH if lazy else 0) == 0:
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
