"""The ``fuse`` engine: pyfuse3 serves the package's tree itself."""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable, Sequence

import pyfuse3
from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, FileNameT, InodeT, ReaddirToken, RequestContext, StatvfsData

from fusepkg.engines.handlers import FOREVER_S, ReadOnlyOperations, guarded, read_only_handle
from fusepkg.engines.shown import ShownVersion, ShownVersions, inode_number
from fusepkg.errors import NoEntry
from fusepkg.fetch.reader import EntryReader
from fusepkg.index.erofs import BLOCK_BYTES
from fusepkg.index.reader import Inode
from fusepkg.vfs.device import RootOwner

BLOCKS_OF_STAT_BYTES = 512
"""Unit of st_blocks."""


class TreeOperations(ReadOnlyOperations):
    """The versions of one package as a FUSE tree."""

    def __init__(
        self,
        versions: ShownVersions,
        reader: EntryReader,
        owner: RootOwner,
        time_s: int | None,
        on_ready: Callable[[], None],
        *,
        xattrs: bool,
    ) -> None:
        super().__init__(on_ready)
        self._xattrs = xattrs
        self._versions = versions
        self._reader = reader
        self._owner = owner
        self._time_s = time_s

    @guarded
    async def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> EntryAttributes:
        """A name in a directory; absence is cached by the kernel too (inode 0)."""
        version, nid = self._versions.find(parent_inode)
        try:
            found = version.tree.lookup(nid, name)
        except NoEntry:
            absent = EntryAttributes()
            absent.st_ino = InodeT(0)
            absent.entry_timeout = FOREVER_S
            return absent
        if found.nid != version.tree.root:  # which is never taken back
            version.use(1)
        attributes = self._attributes(version, found)
        if not self._versions.may_be_kept(version, nid):
            attributes.entry_timeout = 0
        return attributes

    @guarded
    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        """Lookups that the kernel takes back."""
        for inode, lookups in inode_list:
            if inode != pyfuse3.ROOT_INODE:
                self._versions.take_back(inode, lookups)

    @guarded
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        """stat(2)."""
        version, nid = self._versions.find(inode)
        return self._attributes(version, version.tree.inode(nid))

    @guarded
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> FileNameT:
        """readlink(2)."""
        version, nid = self._versions.find(inode)
        return FileNameT(version.tree.readlink(nid))

    @guarded
    async def open(self, inode: InodeT, flags: int, ctx: RequestContext) -> FileInfo:
        """open(2), for reading only."""
        return read_only_handle(inode, flags)

    @guarded
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        """Bytes the page cache does not have."""
        version, nid = self._versions.find_handle(fh)
        return await self._reader.read(version.tree.entry(nid), off, size)

    @guarded
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        """opendir(3)."""
        version, nid = self._versions.find(inode)
        version.use(1)  # of the root, whose inode is that of the current version, nothing else tells
        return FileHandleT(inode_number(version.number, nid))

    @guarded
    async def releasedir(self, fh: FileHandleT) -> None:
        """closedir(3)."""
        self._versions.take_back(fh, 1)

    @guarded
    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        """Names with their attributes, as many as the kernel's buffer takes."""
        version, directory = self._versions.find_handle(fh)
        may_be_kept = self._versions.may_be_kept(version, directory)
        for name, nid, following in version.tree.readdir(directory, start_id, with_dots=True):
            attributes = self._attributes(version, version.tree.inode(nid))
            if not may_be_kept:
                attributes.entry_timeout = 0
            if not pyfuse3.readdir_reply(token, FileNameT(name), attributes, following):
                return
            if name not in (b".", b".."):
                version.use(1)

    @guarded
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        """df(1): the package's size, and no room."""
        tree = self._versions.current.tree
        return package_statfs(tree.total_bytes, tree.inodes)

    @guarded
    async def getxattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> bytes:
        """``user.fusepkg.*``, where they are wanted.

        Else the kernel hears once that there are none at all, and asks no more: `ls -l` wants two of each file.
        """
        if not self._xattrs:
            raise pyfuse3.FUSEError(errno.ENOSYS)
        version, nid = self._versions.find(inode)
        return version.xattrs.get(nid, name)

    @guarded
    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[bytes]:
        """None: what is listed is copied with a file, and ours tell about the package's file only."""
        return []

    def _attributes(self, version: ShownVersion, inode: Inode) -> EntryAttributes:
        attributes = EntryAttributes()
        attributes.st_ino = InodeT(inode_number(version.number, inode.nid))
        attributes.generation = version.tree.generation
        attributes.st_mode = inode.mode
        attributes.st_nlink = inode.nlink
        attributes.st_size = inode.size
        attributes.st_blksize = BLOCK_BYTES
        attributes.st_blocks = -(-inode.size // BLOCK_BYTES) * (BLOCK_BYTES // BLOCKS_OF_STAT_BYTES)
        attributes.st_uid = self._owner.uid
        attributes.st_gid = self._owner.gid
        time_s = inode.mtime_s if self._time_s is None else self._time_s
        attributes.st_mtime_ns = attributes.st_ctime_ns = attributes.st_atime_ns = time_s * 10**9
        attributes.entry_timeout = attributes.attr_timeout = FOREVER_S
        if inode.nid == version.tree.root:
            attributes.st_ino = InodeT(pyfuse3.ROOT_INODE)
            attributes.st_mode = stat.S_IFDIR | self._owner.mode & 0o7777
        return attributes


def package_statfs(total_bytes: int, inodes: int) -> StatvfsData:
    """The numbers of a full, read-only file system of that size."""
    numbers = StatvfsData()
    numbers.f_bsize = numbers.f_frsize = BLOCK_BYTES
    numbers.f_blocks = -(-total_bytes // BLOCK_BYTES)
    numbers.f_bfree = numbers.f_bavail = 0
    numbers.f_files = inodes
    numbers.f_ffree = numbers.f_favail = 0
    numbers.f_namemax = 255
    return numbers


assert errno.ENODATA == pyfuse3.ENOATTR, "the errno table says ENODATA for a missing attribute"
