"""What is known of one entry of a mounted package: its hash, its object, its meta, how much of it is cached."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fusepkg.fetch.reader import EntryReader
    from fusepkg.index.reader import Inode
    from fusepkg.vfs.tree import PackageTree


@dataclass(frozen=True, slots=True)
class EntryStat:
    """``cached`` is ``yes``, ``no`` or ``partly``; ``meta`` the manifest's object as JSON text."""

    logical_key: str
    hash: str
    size: int
    physical_key: str
    meta: str
    cached: str
    chunks: int
    chunks_cached: int

    def as_dict(self) -> dict[str, str | int]:
        """Return all of it by name."""
        return asdict(self)


def entry_stat(tree: PackageTree, reader: EntryReader, inode: Inode) -> EntryStat:
    """Return what is known of a file or symbolic link. Raises IsADirectory."""
    entry = tree.entry(inode.nid)
    cached, chunks = reader.cached_chunks(entry)
    return EntryStat(
        logical_key=entry.logical_key,
        hash=str(entry.digest),
        size=entry.size,
        physical_key=str(entry.physical_key),
        meta=json.dumps(entry.meta, ensure_ascii=False, sort_keys=True),
        cached="yes" if cached == chunks else "partly" if cached else "no",
        chunks=chunks,
        chunks_cached=cached,
    )
