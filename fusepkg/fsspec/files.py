"""Names in a package as programs see them that know no symbolic links: each link is what it points to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fusepkg.errors import NoEntry, NotADirectory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusepkg.index.reader import Inode
    from fusepkg.model.entry import Entry
    from fusepkg.opened.version import OpenVersion
    from fusepkg.vfs.tree import PackageTree

_MOST_LINKS = 40
"""Symbolic links followed for one path, as in Linux."""


def find(tree: PackageTree, path: str) -> Inode:
    """Return the inode that a path leads to, links followed. Raises NoEntry, NotADirectory, NameTooLong."""
    above = [tree.inode(tree.root)]
    parts = path.encode("utf-8", "surrogateescape").split(b"/")[::-1]
    links = 0
    while parts:
        part = parts.pop()
        if part in (b"", b"."):
            continue
        if part == b"..":
            if len(above) == 1:
                raise NoEntry(f"{path!r} leads out of the package")
            above.pop()
            continue
        inode = tree.lookup(above[-1].nid, part)
        if not inode.is_symlink:
            above.append(inode)
            continue
        links += 1
        target = tree.readlink(inode.nid)
        if links > _MOST_LINKS or target.startswith(b"/"):
            raise NoEntry(f"{path!r} is a symbolic link that leads out of the package or in a circle")
        parts += target.split(b"/")[::-1]
    return above[-1]


def entry_of(version: OpenVersion, path: str) -> Entry:
    """Return the entry that a path leads to. Raises NoEntry, NotADirectory, IsADirectory."""
    return version.tree.entry(find(version.tree, path).nid)


def describe(version: OpenVersion, inode: Inode, name: str) -> dict[str, Any]:
    """Return what fsspec calls info: ``size`` in bytes, ``mtime`` in Unix seconds, ``hash`` of a file."""
    if inode.entry_number is None:
        return {"name": name, "size": 0, "type": "directory", "mtime": float(inode.mtime_s)}
    entry = version.index.entries.entry(inode.entry_number)
    return {
        "name": name,
        "size": entry.size,
        "type": "file",
        "mtime": float(inode.mtime_s),
        "hash": str(entry.digest),
    }


def children(version: OpenVersion, path: str, prefix: str) -> Iterator[dict[str, Any]]:
    """Yield the info of all that a directory holds, named below ``prefix``. Raises NoEntry, NotADirectory.

    A symbolic link that leads nowhere, or out of the package, is of the type "other".
    """
    tree = version.tree
    directory = find(tree, path)
    for name, nid, _ in tree.readdir(directory.nid):
        shown = name.decode("utf-8", "surrogateescape")
        inode, whole = tree.inode(nid), f"{prefix}/{shown}"
        if inode.is_symlink:
            try:
                inode = find(tree, f"{path}/{shown}")
            except (NoEntry, NotADirectory):
                yield {"name": whole, "size": 0, "type": "other", "mtime": float(inode.mtime_s)}
                continue
        yield describe(version, inode, whole)
