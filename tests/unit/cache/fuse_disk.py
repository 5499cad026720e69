"""A file system that fails when told to: a directory passed through FUSE, ``python -m tests.unit.cache.fuse_disk``.

It knows no fallocate, as real ones in user space do not, and with ``--no-mmap`` files cannot be mapped. Each line on
its standard input names the operations that fail from now on with EIO ("open read write fsync", or nothing); it
answers each with a line.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyfuse3
import trio

ROOT = Path(__file__).parents[3]


class Disk:
    """The mounted file system, from the test's side."""

    def __init__(self, process: subprocess.Popen[str], path: Path) -> None:
        self._process = process
        self.path = path

    def fail(self, *operations: str) -> None:
        """Let these fail, and no others."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(*operations, file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "done\n"


@contextmanager
def mounted(directory: Path, *options: str) -> Iterator[Disk]:
    """A disk at ``directory / "disk"``."""
    for name in ("behind", "disk"):
        (directory / name).mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "tests.unit.cache.fuse_disk", directory / "behind", directory / "disk", *options],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        disk = Disk(process, directory / "disk")
        try:
            assert process.stdout.readline() == "mounted\n"
            yield disk
        finally:
            process.stdin.close()  # it unmounts and ends
            process.wait(timeout=30)


class Operations(pyfuse3.Operations):
    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, behind: str, *, mmap: bool) -> None:
        super().__init__()
        self._mmap = mmap
        self._paths = {pyfuse3.ROOT_INODE: behind}
        self._numbers: dict[tuple[int, int], int] = {}
        self.failing: set[str] = set()

    def _check(self, operation: str) -> None:
        if operation in self.failing:
            raise pyfuse3.FUSEError(errno.EIO)

    def _known(self, path: str) -> pyfuse3.EntryAttributes:
        found = _done(os.lstat, path)
        number = self._numbers.setdefault((found.st_dev, found.st_ino), 1000 + len(self._numbers))
        self._paths[number] = path
        return self._attributes(number, found)

    def _attributes(self, number: int, found: os.stat_result) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        for name in ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks", "st_mtime_ns", "st_ctime_ns"):
            setattr(entry, name, getattr(found, name))
        entry.st_atime_ns = found.st_atime_ns
        entry.st_ino, entry.st_blksize = number, 4096
        entry.entry_timeout = entry.attr_timeout = 0
        return entry

    def _child(self, parent: int, name: bytes) -> str:
        return os.path.join(self._paths[parent], os.fsdecode(name))

    async def lookup(self, parent: int, name: bytes, ctx: Any) -> pyfuse3.EntryAttributes:
        return self._known(self._child(parent, name))

    async def getattr(self, inode: int, ctx: Any = None) -> pyfuse3.EntryAttributes:
        try:
            return self._attributes(inode, os.lstat(self._paths[inode]))
        except FileNotFoundError:  # unlinked, and open still
            for descriptor, number in self._descriptors.items():
                if number == inode:
                    return self._attributes(inode, os.fstat(descriptor))
            raise pyfuse3.FUSEError(errno.ENOENT) from None

    async def setattr(self, inode: int, attr: Any, fields: Any, fh: Any, ctx: Any) -> pyfuse3.EntryAttributes:
        target = self._paths[inode] if fh is None else fh
        if fields.update_size:
            self._check("write")
            _done(os.truncate, target, attr.st_size)
        if fields.update_mode:
            _done(os.chmod, target, stat.S_IMODE(attr.st_mode))
        return await self.getattr(inode)

    _descriptors: dict[int, int] = {}  # noqa: RUF012  # one file system per process

    def _info(self, descriptor: int, inode: int) -> pyfuse3.FileInfo:
        self._descriptors[descriptor] = inode
        return pyfuse3.FileInfo(fh=descriptor, direct_io=not self._mmap, keep_cache=False)

    async def open(self, inode: int, flags: int, ctx: Any) -> pyfuse3.FileInfo:
        self._check("open")
        return self._info(_done(os.open, self._paths[inode], flags & ~os.O_NOFOLLOW), inode)

    async def create(self, parent: int, name: bytes, mode: int, flags: int, ctx: Any) -> Any:
        self._check("write")
        path = self._child(parent, name)
        descriptor = _done(os.open, path, flags | os.O_CREAT, mode)
        entry = self._known(path)
        return self._info(descriptor, entry.st_ino), entry

    async def read(self, fh: int, off: int, size: int) -> bytes:
        if "/blobs/" in self._paths[self._descriptors[fh]]:  # others are spared: a test asks the cache what it counted
            self._check("read")
        return _done(os.pread, fh, size, off)

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        self._check("write")
        return _done(os.pwrite, fh, buf, off)

    async def fsync(self, fh: int, datasync: bool) -> None:
        self._check("fsync")

    async def release(self, fh: int) -> None:
        del self._descriptors[fh]
        os.close(fh)

    async def mkdir(self, parent: int, name: bytes, mode: int, ctx: Any) -> pyfuse3.EntryAttributes:
        self._check("write")
        _done(os.mkdir, self._child(parent, name), mode)
        return self._known(self._child(parent, name))

    async def unlink(self, parent: int, name: bytes, ctx: Any) -> None:
        self._check("write")
        _done(os.unlink, self._child(parent, name))

    async def rmdir(self, parent: int, name: bytes, ctx: Any) -> None:
        self._check("write")
        _done(os.rmdir, self._child(parent, name))

    async def rename(self, parent: int, name: bytes, to: int, new: bytes, flags: int, ctx: Any) -> None:
        self._check("write")
        _done(os.rename, self._child(parent, name), self._child(to, new))
        self._moved(self._child(parent, name), self._child(to, new))

    def _moved(self, old: str, new: str) -> None:
        for number, path in self._paths.items():
            if path == old or path.startswith(old + "/"):
                self._paths[number] = new + path[len(old) :]

    async def opendir(self, inode: int, ctx: Any) -> int:
        return inode

    async def readdir(self, fh: int, start_id: int, token: Any) -> None:
        for place, name in enumerate(sorted(_done(os.listdir, self._paths[fh]))[start_id:], start_id + 1):
            entry = self._known(os.path.join(self._paths[fh], name))
            if not pyfuse3.readdir_reply(token, os.fsencode(name), entry, place):
                return

    async def statfs(self, ctx: Any) -> pyfuse3.StatvfsData:
        found, told = os.statvfs(self._paths[pyfuse3.ROOT_INODE]), pyfuse3.StatvfsData()
        for name in ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail"):
            setattr(told, name, getattr(found, name))
        told.f_namemax = 255
        return told


def _done(call: Any, *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except OSError as exc:
        raise pyfuse3.FUSEError(exc.errno) from None


async def serve(operations: Operations) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pyfuse3.main)
        print("mounted", flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            operations.failing = set(line.split())
            print("done", flush=True)
        pyfuse3.terminate()


def main() -> None:
    behind, disk, *options = sys.argv[1:]
    operations = Operations(behind, mmap="--no-mmap" not in options)
    pyfuse3.init(operations, disk, {*pyfuse3.default_options, "fsname=failing"} - {"default_permissions"})
    try:
        trio.run(serve, operations)
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main()
