"""Answers to the requests that come most often, made without pyfuse3: a fifth of its time each.

They are what ``tree_operations`` and ``device_operations`` answer. Whatever is not answered here (None), these do: all
about the root, which changes with a switch, other requests, and each error.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Protocol

import pyfuse3

from fusepkg.engines import wire
from fusepkg.engines.handlers import FOREVER_S
from fusepkg.engines.shown import inode_number, place_of
from fusepkg.engines.wire import Opcode
from fusepkg.errors import NoEntry
from fusepkg.index.erofs import BLOCK_BYTES
from fusepkg.vfs.device import ImageFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fusepkg.index.reader import Inode
    from fusepkg.vfs.device import DataDevice, RootOwner
    from fusepkg.vfs.tree import PackageTree

Answer = tuple[bytes, ...]
"""What is to be written to the session; nothing where no answer is wanted."""

NO_ANSWER: Answer = ()

BLOCKS_OF_STAT_BYTES = 512

_ABSENT = wire.ENTRY_OUT.pack(0, 0, FOREVER_S, 0, 0, 0) + bytes(wire.ATTRIBUTES.size)

_HEAD = wire.REQUEST.size


class Version(Protocol):
    """A version of the ``fuse`` engine."""

    @property
    def number(self) -> int:
        """Which one."""

    @property
    def tree(self) -> PackageTree:
        """Its names."""

    def use(self, more: int) -> None:
        """Note that so many uses of it have begun, or ended (negative)."""


class Answers(Protocol):
    """What one engine answers by itself."""

    def answer(self, opcode: int, number: int, inode: int, request: memoryview) -> Answer | None:
        """Return the answer to a request, None if it is not for this. May raise anything: then it is not either."""


class TreeAnswers:
    """Those of the ``fuse`` engine.

    ``find`` gives an open version by its number, ``current`` the number of the one that is shown; ``read`` gives bytes
    of an entry (by its number) if they are here.
    """

    def __init__(
        self,
        find: Callable[[int], Version | None],
        current: Callable[[], int],
        read: Callable[[Version, int, int, int], bytes | None],
        owner: RootOwner,
        time_s: int | None,
    ) -> None:
        self._find = find
        self._current = current
        self._read = read
        self._owner = owner
        self._time_s = time_s
        self._answers: dict[int, Callable[[Version, int, memoryview], Sequence[bytes] | None]] = {
            Opcode.LOOKUP: self._lookup,
            Opcode.GETATTR: self._getattr,
            Opcode.READLINK: self._readlink,
            Opcode.READ: self._read_file,
            Opcode.OPENDIR: self._opendir,
            Opcode.RELEASEDIR: self._releasedir,
            Opcode.READDIRPLUS: self._readdirplus,
        }

    def answer(self, opcode: int, number: int, inode: int, request: memoryview) -> Answer | None:
        """As in ``Answers``."""
        if opcode == Opcode.IOCTL or (opcode == Opcode.OPEN and inode != pyfuse3.ROOT_INODE):
            # Of OPEN, the kernel hears so once: files are named by their inodes, and it refuses writes itself. Python's
            # open() asks each file whether it is a terminal.
            return (wire.ANSWER.pack(wire.ANSWER.size, -errno.ENOSYS, number),)
        if opcode == Opcode.BATCH_FORGET:
            return self._forget_many(request)
        if opcode == Opcode.FORGET:
            return self._forget(inode, wire.COUNT.unpack_from(request, _HEAD)[0])
        make = self._answers.get(opcode)
        if make is None or inode == pyfuse3.ROOT_INODE:
            return None
        which, nid = place_of(inode)
        version = self._find(which)
        if version is None:
            return None
        parts = make(version, nid, request)
        if parts is None:
            return None
        return (wire.ANSWER.pack(wire.ANSWER.size + sum(map(len, parts)), 0, number), *parts)

    def _lookup(self, version: Version, nid: int, request: memoryview) -> Sequence[bytes] | None:
        name = bytes(request[_HEAD:]).split(b"\0", 1)[0]
        if name in (b".", b".."):
            return None
        try:
            found = version.tree.lookup(nid, name)
        except NoEntry:
            return (_ABSENT,)
        version.use(1)
        return (self._entry(version, found, self._kept_s(version)),)

    def _getattr(self, version: Version, nid: int, request: memoryview) -> Sequence[bytes]:
        return wire.ATTR_OUT.pack(FOREVER_S, 0, 0), self._attributes(version, version.tree.inode(nid))

    def _readlink(self, version: Version, nid: int, request: memoryview) -> Sequence[bytes]:
        return (version.tree.readlink(nid),)

    def _read_file(self, version: Version, nid: int, request: memoryview) -> Sequence[bytes] | None:
        _, offset, length = wire.READ_IN.unpack_from(request, _HEAD)
        entry = version.tree.inode(nid).entry_number
        data = None if entry is None else self._read(version, entry, offset, length)
        return None if data is None else (data,)

    def _opendir(self, version: Version, nid: int, request: memoryview) -> Sequence[bytes] | None:
        if not version.tree.inode(nid).is_directory:
            return None
        version.use(1)
        # The listing of an old version's directory is not kept: the kernel lets go of it with its last user.
        flags = wire.KEEP_CACHE | wire.CACHE_DIR if self._kept_s(version) else 0
        return (wire.OPEN_OUT.pack(inode_number(version.number, nid), flags, 0),)

    def _releasedir(self, version: Version, nid: int, request: memoryview) -> Sequence[bytes]:
        version.use(-1)
        return ()

    def _readdirplus(self, version: Version, nid: int, request: memoryview) -> Sequence[bytes]:
        _, position, room = wire.READ_IN.unpack_from(request, _HEAD)
        tree, kept_s = version.tree, self._kept_s(version)
        parts: list[bytes] = []
        for name, child, following in tree.readdir(nid, position, with_dots=True):
            padding = -len(name) % 8
            room -= wire.ENTRY_OUT.size + wire.ATTRIBUTES.size + wire.DIRENT.size + len(name) + padding
            if room < 0:
                break
            inode = tree.inode(child)
            ino = self._number(version, child)
            parts += (
                self._entry(version, inode, kept_s),
                wire.DIRENT.pack(ino, following, len(name), inode.mode >> 12),
                name,
                bytes(padding),
            )
            if name not in (b".", b".."):
                version.use(1)
        return (b"".join(parts),)

    def _forget(self, inode: int, lookups: int) -> Answer:
        version = self._find(place_of(inode)[0])
        if version is not None and inode != pyfuse3.ROOT_INODE:
            version.use(-lookups)
        return NO_ANSWER

    def _forget_many(self, request: memoryview) -> Answer:
        count, _ = wire.BATCH.unpack_from(request, _HEAD)
        start = _HEAD + wire.BATCH.size
        for inode, lookups in wire.FORGOTTEN.iter_unpack(request[start : start + count * wire.FORGOTTEN.size]):
            self._forget(inode, lookups)
        return NO_ANSWER

    def _kept_s(self, version: Version) -> int:
        """Return how long the kernel may keep names of a version, as ``ShownVersions.may_be_kept`` says it."""
        return FOREVER_S if version.number == self._current() else 0

    def _number(self, version: Version, nid: int) -> int:
        return pyfuse3.ROOT_INODE if nid == version.tree.root else inode_number(version.number, nid)

    def _entry(self, version: Version, inode: Inode, kept_s: int) -> bytes:
        head = wire.ENTRY_OUT.pack(self._number(version, inode.nid), version.tree.generation, kept_s, FOREVER_S, 0, 0)
        return head + self._attributes(version, inode)

    def _attributes(self, version: Version, inode: Inode) -> bytes:
        time_s = inode.mtime_s if self._time_s is None else self._time_s
        size, owner = inode.size, self._owner
        is_root = inode.nid == version.tree.root
        mode = 0o040000 | owner.mode & 0o7777 if is_root else inode.mode
        blocks = -(-size // BLOCK_BYTES) * (BLOCK_BYTES // BLOCKS_OF_STAT_BYTES)
        return wire.ATTRIBUTES.pack(
            self._number(version, inode.nid), size, blocks, time_s, time_s, time_s, 0, 0, 0,
            mode, inode.nlink, owner.uid, owner.gid, 0, BLOCK_BYTES, 0,
        )  # fmt: skip


class DeviceAnswers:
    """Those of the ``erofs`` engine: reads of its two files. ``find`` gives those by an inode of the hidden mount."""

    def __init__(
        self,
        find: Callable[[int], ImageFile | DataDevice | None],
        read: Callable[[int, DataDevice, int, int], bytes | None],
    ) -> None:
        self._find = find
        self._read = read

    def answer(self, opcode: int, number: int, inode: int, request: memoryview) -> Answer | None:
        """As in ``Answers``."""
        if opcode in (Opcode.FORGET, Opcode.BATCH_FORGET):
            return NO_ANSWER  # nothing is kept per lookup
        if opcode != Opcode.READ:
            return None
        _, offset, length = wire.READ_IN.unpack_from(request, _HEAD)
        file = self._find(inode)
        if file is None:
            return None
        data = file.read(offset, length) if isinstance(file, ImageFile) else self._read(inode, file, offset, length)
        return None if data is None else (wire.ANSWER.pack(wire.ANSWER.size + len(data), 0, number), data)
