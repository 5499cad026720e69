"""The ``erofs`` engine's hidden FUSE mount: two files of bytes, on which the kernel's own EROFS is mounted.

``data`` is opened for direct I/O, because EROFS keeps the pages of its files itself; ``image`` keeps its pages.
The mount goes without default_permissions: only the kernel opens these two files, and never through a path.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable

import pyfuse3
from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, FileNameT, InodeT, ReaddirToken, RequestContext, StatvfsData

from fusepkg.engines.handlers import FOREVER_S, ReadOnlyOperations, guarded, read_only_handle
from fusepkg.engines.tree_operations import package_statfs
from fusepkg.vfs.device import DataDevice, ImageFile

IMAGE_INODE, DATA_INODE = 2, 3
IMAGE_NAME, DATA_NAME = "image", "data"
_INODES = {IMAGE_NAME.encode(): IMAGE_INODE, DATA_NAME.encode(): DATA_INODE}


class DeviceOperations(ReadOnlyOperations):
    """``image`` and ``data`` of one package."""

    def __init__(self, image: ImageFile, data: DataDevice, on_ready: Callable[[], None]) -> None:
        super().__init__(on_ready)
        self._image = image
        self._data = data

    @guarded
    async def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> EntryAttributes:
        """One of the two names."""
        if name not in _INODES:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self._attributes(_INODES[name])

    @guarded
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        """Sizes of the two files."""
        return self._attributes(inode)

    @guarded
    async def open(self, inode: InodeT, flags: int, ctx: RequestContext) -> FileInfo:
        """Opened once each, by EROFS, when it is mounted."""
        return read_only_handle(inode, flags, direct_io=inode == DATA_INODE)

    @guarded
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        """Pages EROFS does not have."""
        if fh == DATA_INODE:
            return await self._data.read(off, size)
        return self._image.read(off, size)

    @guarded
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        """The hidden root."""
        return FileHandleT(inode)

    @guarded
    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        """List both names, which are visible until the image is mounted over them."""
        for name, inode in list(_INODES.items())[start_id:]:
            if not pyfuse3.readdir_reply(token, FileNameT(name), self._attributes(inode), inode - IMAGE_INODE + 1):
                return

    @guarded
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        """Size of both files."""
        return package_statfs(self._image.size + self._data.size, len(_INODES))

    def _attributes(self, inode: int) -> EntryAttributes:
        attributes = EntryAttributes()
        attributes.st_ino = InodeT(inode)
        attributes.entry_timeout = attributes.attr_timeout = FOREVER_S
        if inode == pyfuse3.ROOT_INODE:
            attributes.st_mode = stat.S_IFDIR | 0o500
        else:
            attributes.st_mode = stat.S_IFREG | 0o400
            attributes.st_size = self._image.size if inode == IMAGE_INODE else self._data.size
        return attributes
