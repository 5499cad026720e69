"""The kernel's table of mounts, with odd names in it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fusepkg.daemon import mount_table


@dataclass
class Table:
    """A mount table in a file, for whoever reads /proc/self/mountinfo."""

    path: Path

    def hold(self, *mountpoints: bytes) -> None:
        self.path.write_bytes(
            b"".join(b"2%d 1 0:4%d / %s rw,nosuid - tmpfs tmpfs rw\n" % (n, n, at) for n, at in enumerate(mountpoints))
        )


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    table = Table(tmp_path / "mountinfo")

    class Elsewhere(type(Path())):  # type: ignore[misc]
        def __new__(cls, *parts: Any) -> Path:
            return Path(table.path) if parts == ("/proc/self/mountinfo",) else Path(*parts)

    monkeypatch.setattr(mount_table, "Path", Elsewhere)
    return table


@pytest.mark.parametrize(
    "name", ["/mnt/a", "/mnt/a b", "/mnt/a\tb", "/mnt/a\nb", "/mnt/a\\b", "/mnt/a\\040b", "/mnt/#"]
)
def test_a_mountpoint_is_recognised_as_the_kernel_writes_it(table: Table, name: str):
    table.hold(b"/", kernels(os.fsencode(name)), b"/proc")
    assert mount_table.mounted_at(Path(name))
    assert not mount_table.mounted_at(Path(name + "x"))


@pytest.mark.parametrize(
    "name", [b"/mnt/\xe6\x95\xb0", b"/mnt/\xff", b"/mnt/a\x0cb", "/mnt/a\u2028b".encode(), "/mnt/a\xa0b".encode()]
)
def test_no_name_of_a_mountpoint_makes_the_table_unreadable(table: Table, name: bytes):
    table.hold(kernels(name), b"/mnt/after")
    assert mount_table.mounted_devices() == {"0:40", "0:41"}
    assert mount_table.mounted_at(Path("/mnt/after"))
    assert mount_table.mounted_at(Path(os.fsdecode(name)))


def kernels(name: bytes) -> bytes:
    """A name as the kernel escapes it in its tables."""
    return b"".join(b"\\%03o" % byte if byte in b" \t\n\\#" else bytes([byte]) for byte in name)


@pytest.mark.parametrize(
    ("kind", "source", "ours"),
    [
        (b"fuse.fusepkg", b"fusepkg", True),
        (b"erofs", b"/tmp/fusepkg-k2x_1/image", True),
        (b"erofs", b"/tmp/my/image", False),
        (b"fuse.sshfs", b"host:", False),
        (b"tmpfs", b"fusepkg", False),
    ],
)
def test_what_is_ours_shows_in_the_table(table: Table, kind: bytes, source: bytes, ours: bool):
    table.path.write_bytes(b"20 1 0:40 / /a rw shared:1 master:2 - %s %s rw,user_id=7,group_id=8\n" % (kind, source))
    found = mount_table.top_mount(Path("/a"))
    assert found is not None
    assert found.is_ours is ours
    assert found.owner == 7
