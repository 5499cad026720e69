"""The kernel's table of mounts."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mounted:
    """One line of the kernel's table; ``device`` is ``major:minor``, names are as the kernel has them: bytes."""

    device: str
    path: bytes
    kind: bytes
    source: bytes
    owner: int = 0
    """The user id that mounted it, where the kernel says so: for FUSE."""

    @property
    def is_ours(self) -> bool:
        """Whether it shows itself as a mount of fusepkg, also of one whose daemon is dead or whose record is lost."""
        if self.kind == b"erofs":
            # Named as its package is; other programs mount EROFS by absolute paths.
            return re.search(rb"^[^/]+/[^/]|/fusepkg-[^/]+/image$", self.source) is not None
        return self.kind == b"fuse.fusepkg"


def mount_table() -> list[Mounted]:
    """Everything mounted, in the order it was mounted: of two at one place, the later hides the earlier."""
    mounts = []
    for line in Path("/proc/self/mountinfo").read_bytes().split(b"\n"):
        if line:
            fields = line.split(b" ")
            kind = fields.index(b"-", 6) + 1  # after a varying number of optional fields
            path, source = _unescaped(fields[4]), _unescaped(fields[kind + 1])
            owner = re.search(rb"\buser_id=(\d+)", fields[-1])
            mounts.append(Mounted(fields[2].decode(), path, fields[kind], source, int(owner[1]) if owner else 0))
    return mounts


def _unescaped(name: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), name)


def mounted_devices() -> set[str]:
    """``major:minor`` of everything mounted."""
    return {mount.device for mount in mount_table()}


def top_mount(path: Path) -> Mounted | None:
    """What is mounted exactly there, the last of several; None where nothing is."""
    wanted = os.fsencode(path)
    return next((mount for mount in reversed(mount_table()) if mount.path == wanted), None)


def mounted_at(path: Path) -> bool:
    """Return whether something is mounted exactly there."""
    return top_mount(path) is not None


def still_mounted(path: Path) -> bool:
    """The same, of what was mounted there: where the table cannot be read (no descriptor is free), it still is."""
    try:
        return mounted_at(path)
    except OSError:
        return True
