"""A package as a tree of names: lookups, attributes, directories, symbolic links, and the entry behind an inode.

An inode is named by its ``nid``, its place in the image; it never changes for a package, so nothing is kept per open
file and any process can answer for any inode.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusepkg.errors import IsADirectory, NameTooLong, NoEntry, NotADirectory, NotASymlink
from fusepkg.index import erofs
from fusepkg.model.entry import MAX_NAME_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusepkg.index.opening import Index
    from fusepkg.index.reader import Inode
    from fusepkg.model.entry import Entry


class PackageTree:
    """The names of one package."""

    def __init__(self, index: Index) -> None:
        self._image = index.image
        self._entries = index.entries
        self.root = self._image.root
        self.total_bytes = index.total_bytes
        self.inodes = self._image.inodes
        self.generation = int(index.top_hash[:8], 16)
        """Tells the inodes of this version from those of others: 32 bits."""

    def inode(self, nid: int) -> Inode:
        """Attributes of an inode. Raises IndexDamaged."""
        return self._image.inode(nid)

    def lookup(self, parent: int, name: bytes) -> Inode:
        """The inode of ``name`` in the directory ``parent``. Raises NoEntry, NotADirectory, NameTooLong."""
        if len(name) > MAX_NAME_BYTES:
            raise NameTooLong(f"a name of {len(name)} bytes")
        if name == b".":
            return self._inode_by_handle(parent)
        if not self._image.inode(parent).is_directory:
            raise NotADirectory("not a directory")
        nid = self._image.lookup(parent, name)
        if nid is None:
            raise NoEntry(f"no entry {name.decode(errors='replace')!r}")
        return self._image.inode(nid)

    def _inode_by_handle(self, nid: int) -> Inode:
        """The inode itself, of a file too: a file handle that the kernel has forgotten is looked up by ".".

        Raises NoEntry if it is no inode of this package: handles come from outside.
        """
        first = self._image.inode_offset(self.root)
        offset = self._image.inode_offset(nid)
        if nid < 0 or offset % erofs.SLOT_BYTES or not first <= offset < self._entries.inodes_end:
            raise NoEntry(f"no inode {nid}")
        start = max(offset - offset % erofs.BLOCK_BYTES, first)
        end = min(offset - offset % erofs.BLOCK_BYTES + erofs.BLOCK_BYTES, self._entries.inodes_end)
        if offset - start not in erofs.inodes_in(self._image.read(start, end - start), 0, end - start):
            raise NoEntry(f"no inode {nid}")
        return self._image.inode(nid)

    def resolve(self, path: str) -> Inode:
        """The inode at ``path``, relative to the root; symbolic links are not followed. Raises FsError."""
        inode = self._image.inode(self.root)
        for part in path.encode("utf-8", "surrogateescape").split(b"/"):
            if part not in (b"", b"."):
                inode = self.lookup(inode.nid, part)
        return inode

    def readdir(self, nid: int, position: int = 0, *, with_dots: bool = False) -> Iterator[tuple[bytes, int, int]]:
        """Names in a directory after ``position`` (0: from the start): name, nid, position after it.

        Positions stay valid for as long as the package does.
        """
        if not self._image.inode(nid).is_directory:
            raise NotADirectory("not a directory")
        for name, child, _kind, following in self._image.readdir(nid, position):
            if with_dots or name not in (b".", b".."):
                yield name, child, following

    def readlink(self, nid: int) -> bytes:
        """The target of a symbolic link. Raises NotASymlink."""
        if not self._image.inode(nid).is_symlink:
            raise NotASymlink("not a symbolic link")
        return self._image.readlink(nid)

    def entry(self, nid: int) -> Entry:
        """The manifest's entry behind a file or link. Raises IsADirectory."""
        number = self._image.inode(nid).entry_number
        if number is None:
            raise IsADirectory("a directory has no entry")
        return self._entries.entry(number)

    def numbered_entry(self, number: int) -> Entry:
        """The manifest's entry of that number."""
        return self._entries.entry(number)
