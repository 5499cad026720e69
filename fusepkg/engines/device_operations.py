"""The ``erofs`` engine's hidden FUSE mount: for each version two files of bytes, which the kernel mounts as EROFS.

``data`` is opened for direct I/O, because EROFS keeps the pages of its files itself; ``image`` keeps its pages.
The mount goes without default_permissions: only the kernel opens these files, and never through a path.
"""

from __future__ import annotations

import errno
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyfuse3
from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, FileNameT, InodeT, ReaddirToken, RequestContext, StatvfsData

from fusepkg.engines.handlers import FOREVER_S, ReadOnlyOperations, guarded, read_only_handle
from fusepkg.engines.shared import publish_versions
from fusepkg.engines.tree_operations import package_statfs
from fusepkg.errors import NoEntry
from fusepkg.vfs.device import DataDevice, ImageFile

if TYPE_CHECKING:
    from pathlib import Path

    from fusepkg.engines.shared import SharedMemory
    from fusepkg.index.opening import Index

IMAGE_NAME, DATA_NAME = "image", "data"
_FIRST_INODE = pyfuse3.ROOT_INODE + 1
_NAME = re.compile(rb"(image|data)(\d*)")


@dataclass(slots=True)
class DevicePair:
    """The two files of a version, whose index lies in ``directory``.

    ``in_use`` are the inodes of those that EROFS has not closed yet.
    """

    image: ImageFile
    data: DataDevice
    top_hash: str
    directory: Path
    in_use: set[int]


class DeviceOperations(ReadOnlyOperations):
    """Two files for each version that is mounted or still in use.

    ``on_change`` hears that EROFS has closed a file, before it gets its answer; ``on_unused`` that it uses none now.
    """

    def __init__(
        self,
        on_ready: Callable[[], None],
        on_change: Callable[[], None],
        on_unused: Callable[[], None],
        shared: SharedMemory,
    ) -> None:
        super().__init__(on_ready)
        self._shared = shared
        self._on_change = on_change
        self._on_unused = on_unused
        self._pairs: dict[int, DevicePair] = {}
        self.next_number = 0

    def add(self, image: ImageFile, data: DataDevice, index: Index) -> int:
        """Offer the files of a version; return its number. Numbers are not used again: each is mounted once."""
        number, self.next_number = self.next_number, self.next_number + 1
        self.restore(number, image, data, index, {_inode(number, IMAGE_NAME), _inode(number, DATA_NAME)})
        return number

    def restore(self, number: int, image: ImageFile, data: DataDevice, index: Index, in_use: set[int]) -> None:
        """Offer files that another process offered by that number."""
        self._pairs[number] = DevicePair(image, data, index.top_hash, index.directory, in_use)
        self._publish()

    def facts(self) -> dict[str, object]:
        """What another process needs to go on: the versions by number, and which of their files EROFS has open."""
        pairs = [[number, pair.top_hash, sorted(pair.in_use)] for number, pair in self._pairs.items()]
        return {"pairs": pairs, "next": self.next_number}

    def remove(self, number: int) -> None:
        """Take the files of a version back."""
        if self._pairs.pop(number, None) is not None:
            self._publish()
            if not self._pairs:
                self._on_unused()

    @guarded
    async def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> EntryAttributes:
        """One of the names."""
        found = _NAME.fullmatch(name)
        number = int(found[2] or 0) if found else -1
        if found is None or number not in self._pairs:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self._attributes(_inode(number, found[1].decode()))

    @guarded
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        """Sizes of the files."""
        return self._attributes(inode)

    @guarded
    async def open(self, inode: InodeT, flags: int, ctx: RequestContext) -> FileInfo:
        """Opened once each, by EROFS, when it is mounted."""
        return read_only_handle(inode, flags, direct_io=not is_image(inode))

    @guarded
    async def release(self, fh: FileHandleT) -> None:
        """Closed by EROFS: the version is not mounted any more, and no program has a file of it open."""
        number = pair_number(fh)
        pair = self._pairs.get(number)
        if pair is not None:
            pair.in_use.discard(fh)
            if not pair.in_use:
                self.remove(number)
            self._on_change()

    @guarded
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        """Pages EROFS does not have."""
        return await self.read_file(fh, off, size)

    async def read_file(self, inode: int, offset: int, size: int) -> bytes:
        """Return bytes of one of the files. Raises as ``DataDevice.read``, and NoEntry."""
        pair = self._pair(inode)
        if is_image(inode):
            return pair.image.read(offset, size)
        return await pair.data.read(offset, size)

    def device(self, number: int) -> DataDevice | None:
        """Return the data of a version that is offered."""
        pair = self._pairs.get(number)
        return None if pair is None else pair.data

    @guarded
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        """The hidden root."""
        return FileHandleT(inode)

    @guarded
    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        """List the names, which are visible until the first image is mounted over them."""
        names = [(name, number) for number in self._pairs for name in (IMAGE_NAME, DATA_NAME)]
        for position, (name, number) in enumerate(names[start_id:], start_id + 1):
            attributes = self._attributes(_inode(number, name))
            if not pyfuse3.readdir_reply(token, FileNameT(file_name(name, number).encode()), attributes, position):
                return

    @guarded
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        """Size of all files."""
        sizes = [pair.image.size + pair.data.size for pair in self._pairs.values()]
        return package_statfs(sum(sizes), 2 * len(sizes))

    def _attributes(self, inode: int) -> EntryAttributes:
        attributes = EntryAttributes()
        attributes.st_ino = InodeT(inode)
        attributes.entry_timeout = attributes.attr_timeout = FOREVER_S
        if inode == pyfuse3.ROOT_INODE:
            attributes.st_mode = stat.S_IFDIR | 0o500
        else:
            pair = self._pair(inode)
            attributes.st_mode = stat.S_IFREG | 0o400
            attributes.st_size = pair.image.size if is_image(inode) else pair.data.size
        return attributes

    def file(self, inode: int) -> ImageFile | DataDevice | None:
        """Return one of the files; None if there is no such file, or not any more."""
        pair = self._pairs.get(pair_number(inode))
        return None if pair is None else pair.image if is_image(inode) else pair.data

    def _publish(self) -> None:
        """Tell the other processes of the mount which versions are offered."""
        offered = {number: (pair.top_hash, pair.directory) for number, pair in self._pairs.items()}
        publish_versions(self._shared, offered, -1)

    def _pair(self, inode: int) -> DevicePair:
        pair = self._pairs.get(pair_number(inode))
        if pair is None:
            raise NoEntry(f"no file {inode} in the hidden mount")
        return pair


def file_name(name: str, number: int) -> str:
    """The name of one of a version's two files."""
    return f"{name}{number or ''}"


def _inode(number: int, name: str) -> int:
    return _FIRST_INODE + 2 * number + (name == DATA_NAME)


def pair_number(inode: int) -> int:
    """Return the number of the version that a file belongs to."""
    return (inode - _FIRST_INODE) // 2


def is_image(inode: int) -> bool:
    """Return whether it is the image rather than the data."""
    return (inode - _FIRST_INODE) % 2 == 0
