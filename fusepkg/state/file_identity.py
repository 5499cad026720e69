"""Decide by stat data whether a file is unchanged since it was read.

``stat`` can repeat for other bytes: device numbers are given to the next file system that is mounted, and images and
mounts have fixed inodes and times. So stat data are believed later only on a disk file system with a name of its own,
where the kernel itself sets the change time (ctime). Everywhere else they are believed for one mount, in one boot.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import secrets
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SETTLED_NS = 60_000_000_000
"""A file changed more recently than this is not remembered.

A program that has mapped a file can write to it without a new ctime until the kernel has written its pages to the
disk, which takes 35 s by default (vm.dirty_expire_centisecs, vm.dirty_writeback_centisecs).
"""

CLOCK_TICK_NS = 20_000_000
"""Two changes within this may have one ctime: the kernel's clock for times ticks every 1 to 10 ms."""

_TRUSTED = frozenset(("ext2", "ext3", "ext4", "xfs", "btrfs", "bcachefs"))
"""File systems where every change, also one through a mapping, sets ctime from the machine's clock.

Not tmpfs: writes through a mapping set it once. Not f2fs: after a power cut it may have new bytes under an old ctime,
as any file system with ``lazytime``. Not overlay, network and FUSE file systems: others set the times there.
"""

_ANSWERING = _TRUSTED | {"tmpfs", "overlay", "zfs", "f2fs"}
"""File systems that no server and no other process answers for."""

_LOOP_MAJOR = 7
"""Loop devices hold images, which may have been made with fixed times."""

_GET_FS_UUID = 0x80111500
"""FS_IOC_GETFSUUID, Linux 6.9: one byte of length, 16 bytes of UUID."""

_STATX_MNT_ID_UNIQUE = 0x4000
_STATX_BYTES = 256
_STATX_MOUNT_ID_AT = 144
_AT_EMPTY_PATH = 0x1000

_LASTING = "disk "
_MOUNT = "mount "
_UNKNOWN = "unknown "

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Stat data of a file, and the name of its file system. Two equal ones are the same bytes.

    ``filesystem`` says how long that is true: always on a trusted disk, for one mount elsewhere. ``device`` is
    ``st_dev``, which is good for comparisons while the file is open.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    filesystem: str = ""

    @property
    def is_lasting(self) -> bool:
        """Return whether the identity can be kept and compared later.

        A ctime of whole seconds was written by a tool that makes images, or has a resolution of a second.
        """
        return self.filesystem.startswith(_LASTING) and self.ctime_ns % 1_000_000_000 != 0

    def is_settled(self, read_at_ns: int) -> bool:
        """Return whether any change after ``read_at_ns`` gives another identity; it is a ``time.time_ns()``."""
        return self.is_lasting and self.ctime_ns + SETTLED_NS <= read_at_ns


class FileSystems:
    """Names file systems, each looked at once.

    Make a new one for each scan: the kernel gives the number of an unmounted file system to another one.
    """

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def identity(self, path: bytes | str | os.PathLike[str], status: os.stat_result) -> FileIdentity:
        """Return the identity of the regular file at ``path``; ``status`` is its own."""
        name = self._names.get(status.st_dev)
        if name is None:
            name = self._names[status.st_dev] = name_filesystem(path, status.st_dev)
        return FileIdentity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, name)


def name_filesystem(path: bytes | str | os.PathLike[str], device: int) -> str:
    """Return the name of the file system that the file or directory at ``path`` lies in.

    It begins with ``disk`` where stat data are good for ever. A name that nothing else gets is returned where ``path``
    cannot be opened, or lies on another device than ``device`` by now.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError:
        return _new_name()
    try:
        if os.fstat(descriptor).st_dev != device:
            return _new_name()
        return _lasting_name(descriptor, device) or _mount_name(descriptor)
    except (OSError, ValueError):
        return _new_name()
    finally:
        os.close(descriptor)


def is_on_local_disk(descriptor: int) -> bool:
    """Return whether an open file's reads are answered by a disk of this machine: soon, or with an error."""
    try:
        mount = _mount_of(descriptor)
    except (OSError, ValueError):
        return False
    return mount is not None and mount.kind in _ANSWERING


def is_lasting_name(name: str) -> bool:
    """Return whether stat data of that file system can be kept and compared later."""
    return name.startswith(_LASTING)


def is_mount_name(name: str) -> bool:
    """Whether it names one mount, and no other until the machine starts again."""
    return name.startswith(_MOUNT)


def _new_name() -> str:
    return _UNKNOWN + secrets.token_hex(8)


def _lasting_name(descriptor: int, device: int) -> str | None:
    mount = _mount_of(descriptor)
    if mount is None or mount.kind not in _TRUSTED or os.major(device) == _LOOP_MAJOR:
        return None
    if not mount.options.isdisjoint(("ro", "lazytime")):
        return None
    uuid = _uuid(descriptor) or _uuid_by_device(device)
    fsid = os.fstatvfs(descriptor).f_fsid
    if mount.kind == "btrfs":  # its fsid has the subvolume's number in it, and st_dev is made up
        return f"{_LASTING}btrfs {uuid or ''} {fsid:x}" if fsid else None
    if uuid is None and mount.kind.startswith("ext") and fsid:
        uuid = f"{fsid:x}"  # made of the UUID
    if uuid is None:
        return None
    place = f" {os.major(device)}:{os.minor(device)}" if os.major(device) else ""  # tells a disk from its copy
    return f"{_LASTING}{mount.kind} {uuid}{place}"


@dataclass(frozen=True, slots=True)
class _Mount:
    kind: str
    options: frozenset[str]


def _mount_of(descriptor: int) -> _Mount | None:
    """Return what the kernel's mount table says of an open file; ``options`` are those of the file system itself."""
    found = re.search(r"^mnt_id:\s*(\d+)$", Path(f"/proc/self/fdinfo/{descriptor}").read_text(), re.MULTILINE)
    if found is None:
        return None
    for line in Path("/proc/self/mountinfo").read_bytes().split(b"\n"):
        fields = line.split(b" ")
        if fields[0] == found[1].encode():
            kind = fields.index(b"-", 6) + 1
            return _Mount(fields[kind].decode(), frozenset(os.fsdecode(fields[kind + 2]).split(",")))
    return None


def _uuid(descriptor: int) -> str | None:
    with suppress(OSError):
        answer = fcntl.ioctl(descriptor, _GET_FS_UUID, bytes(17))
        raw = answer[1 : 1 + answer[0]]
        return raw.hex() if any(raw) else None
    return None


def _uuid_by_device(device: int) -> str | None:
    directory = "/dev/disk/by-uuid"
    with suppress(OSError):
        for name in sorted(os.listdir(directory)):
            with suppress(OSError):
                if os.stat(f"{directory}/{name}").st_rdev == device:
                    return name.replace("-", "").lower()
    return None


def _mount_name(descriptor: int) -> str:
    """Return a name that is good until the file system is unmounted: Linux 6.8 numbers mounts without repeating."""
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    statx = getattr(_libc(), "statx", None)
    if statx is None or statx(descriptor, b"", _AT_EMPTY_PATH, _STATX_MNT_ID_UNIQUE, buffer):
        return _new_name()
    if not int.from_bytes(buffer.raw[:4], sys.byteorder) & _STATX_MNT_ID_UNIQUE:
        return _new_name()
    number = int.from_bytes(buffer.raw[_STATX_MOUNT_ID_AT : _STATX_MOUNT_ID_AT + 8], sys.byteorder)
    return f"{_MOUNT}{_boot_id()} {number}"


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@cache
def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
