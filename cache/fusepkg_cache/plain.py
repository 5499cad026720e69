"""Blobs as plain files for other users and machines to read: a directory that serves as a lower cache.

The files get the modes that the user's umask gives them. There is no index, and nothing to lock but the file written.
The layout is that of a cache whose blobs are all large, so a cache can be opened on it as well. Any number of processes
may write at once, on any machine that shares the directory. What a killed one leaves is used by the next that writes
the same blob.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg_cache._translate import translated
from fusepkg_cache.digest import Hashing
from fusepkg_cache.errors import CacheUnusable, WrongBytes
from fusepkg_cache.files import BlobFiles
from fusepkg_cache.layout import LAYOUT_VERSION, CacheLayout

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fusepkg_cache.digest import Digest

_VERSION = b"fusepkg-cache %d\n" % LAYOUT_VERSION
_UNFINISHED = ".part"
_READABLE = 0o444


class PlainFiles:
    """Blobs below a directory, which is made if need be. Safe for many threads.

    Raises CacheUnusable where the directory cannot be written to, or holds another layout.
    """

    def __init__(self, directory: Path) -> None:
        layout = CacheLayout(directory.absolute())
        self.directory = layout.directory
        self._blobs = BlobFiles(layout.blobs)
        with translated(f"cannot write to {directory}"):
            layout.blobs.mkdir(parents=True, exist_ok=True)
            try:
                found = layout.version_file.read_bytes()
            except FileNotFoundError:
                found = None
            if not found:  # or another is just writing it
                layout.version_file.write_bytes(_VERSION)
            elif found != _VERSION:
                raise CacheUnusable(f"{directory} is laid out by another program", hint="Name another directory")

    def has(self, digest: Digest, size: int) -> bool:
        """Whether there is a file of that name and size."""
        return self._blobs.size(digest) == size

    def put(self, digest: Digest, pieces: Iterable[bytes], *, size: int) -> None:
        """Write a blob of ``size`` bytes; on return everybody finds it. Replaces a file of the same name.

        Raises: WrongBytes where the pieces are not that blob, CacheUnusable, and what the pieces raise; then no
        file of the name is left that was not there before.
        """
        final = self._blobs.path(digest)
        with translated(f"cannot write {final}"):
            Path(final).parent.mkdir(parents=True, exist_ok=True)
            descriptor = _opened_alone(final + _UNFINISHED)
        try:
            hashing = Hashing(digest.algorithm, size)
            for piece in pieces:
                hashing.update(piece)
                with translated(f"cannot write {final}"):
                    _write(descriptor, piece)
            if not digest.matches(hashing.digest()):
                os.unlink(final + _UNFINISHED)
                raise WrongBytes(f"the bytes given as {digest} are others")
            with translated(f"cannot write {final}"):
                os.fchmod(descriptor, os.fstat(descriptor).st_mode & _READABLE)
                os.rename(final + _UNFINISHED, final)
        finally:
            os.close(descriptor)


def _opened_alone(path: str) -> int:
    """Open the file of that name, emptied and locked against other writers; return its descriptor."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                os.truncate(descriptor, 0)
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)  # who had it before has given it its name


def _write(descriptor: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(descriptor, view) :]
