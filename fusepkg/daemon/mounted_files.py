"""Hashes of files that lie in this user's own mounts: their manifest says them, so they need not be read."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg_cache.digest import Algorithm, chunk_count, combine_chunks

from fusepkg.daemon.records import is_alive, read_records
from fusepkg.errors import FusepkgError
from fusepkg.index.opening import open_index
from fusepkg.model.reference import parse_reference
from fusepkg.registry.manifests import get_chunk_list
from fusepkg.state.file_identity import is_mount_name, name_filesystem

if TYPE_CHECKING:
    from fusepkg_cache.digest import Digest

    from fusepkg.app.context import Context
    from fusepkg.index.opening import Index
    from fusepkg.model.reference import BucketUrl
    from fusepkg.state.file_identity import FileIdentity


_LOOKED_AT = 16
"""Names of a mount's root whose inode numbers are compared with the image's."""


@dataclass(frozen=True, slots=True)
class _Mount:
    """What a mount shows; inode numbers of its files are those of the image and ``first_inode``."""

    index: Index
    registry: BucketUrl
    first_inode: int


def use_mounted_files(context: Context) -> None:
    """Have a context know the hashes of files in mounts."""
    context.find_mounted = _MountedFiles(context).find


class _MountedFiles:
    """Safe for many threads."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._mounts: dict[str, _Mount | None] = {}
        """By the kernel's name of the mount, which no other gets until the machine starts again."""

    def find(self, identity: FileIdentity) -> tuple[Digest, tuple[bytes, ...]] | None:
        """Return the hash of a file, and those of its chunks if there are several; None if no mount of ours tells."""
        if not is_mount_name(identity.filesystem):
            return None
        with self._lock:
            if identity.filesystem not in self._mounts:
                self._mounts[identity.filesystem] = _find_mount(identity)
            mount = self._mounts[identity.filesystem]
        if mount is None:
            return None
        try:
            number = mount.index.image.inode(identity.inode - mount.first_inode).entry_number
            entry = None if number is None else mount.index.entries.entry(number)
            if entry is None or entry.size != identity.size or entry.digest.algorithm is not Algorithm.SHA2_256_CHUNKED:
                return None
            if chunk_count(entry.size) <= 1:
                return entry.digest, ()
            chunks = tuple(get_chunk_list(self._context.store(mount.registry), entry.digest))
        except (FusepkgError, IndexError, ValueError):
            return None
        is_right = len(chunks) == chunk_count(entry.size) and combine_chunks(chunks) == entry.digest
        return (entry.digest, chunks) if is_right else None


def _find_mount(identity: FileIdentity) -> _Mount | None:
    for record in read_records():
        if record.device != f"{os.major(identity.device)}:{os.minor(identity.device)}":
            continue
        with suppress(FusepkgError):
            if name_filesystem(record.mountpoint, identity.device) == identity.filesystem and is_alive(record):
                index = open_index(Path(record.index_root), record.top_hash)
                first_inode = None if index is None else _first_inode(record.mountpoint, index)
                if index is not None and first_inode is not None:
                    return _Mount(index, parse_reference(record.reference).bucket, first_inode)
    return None


def _first_inode(mountpoint: str, index: Index) -> int | None:
    """Return what the kernel adds to the image's inode numbers, which its version decides; None if it is no number."""
    root = index.image.root
    names = islice(index.image.readdir(root, 0), _LOOKED_AT)
    pairs = [(b".", root), *((name, nid) for name, nid, *_ in names if name not in (b".", b".."))]
    try:
        added = {os.lstat(os.path.join(os.fsencode(mountpoint), name)).st_ino - nid for name, nid in pairs}
    except OSError:
        return None
    return added.pop() if len(added) == 1 else None
