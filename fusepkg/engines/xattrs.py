"""``user.fusepkg.*``: what `fusepkg stat` tells, for getfattr(1) on the ``fuse`` engine.

They are answered, but not listed: programs that copy attributes would put the hash of the original on an edited copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusepkg.errors import NoAttribute
from fusepkg.vfs.entry_stat import entry_stat

if TYPE_CHECKING:
    from fusepkg.fetch.reader import EntryReader
    from fusepkg.vfs.tree import PackageTree

PREFIX = b"user.fusepkg."


class XattrSource:
    """Extended attributes of a package's inodes; those of the root are in ``package``, by name."""

    def __init__(self, tree: PackageTree, reader: EntryReader, package: dict[str, str]) -> None:
        self._tree = tree
        self._reader = reader
        self._package = package

    def get(self, nid: int, name: bytes) -> bytes:
        """One value. Raises NoAttribute."""
        if name.startswith(PREFIX):
            value = self._values(nid).get(name[len(PREFIX) :].decode(errors="replace"))
            if value is not None:
                return value.encode()
        raise NoAttribute("no such attribute")

    def _values(self, nid: int) -> dict[str, str]:
        inode = self._tree.inode(nid)
        if inode.entry_number is None:
            return self._package if nid == self._tree.root else {}
        found = entry_stat(self._tree, self._reader, inode)
        return {name: str(value) for name, value in found.as_dict().items()}
