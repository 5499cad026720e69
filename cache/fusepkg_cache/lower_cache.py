"""The lower cache: another cache directory that is only read, such as one a cluster shares.

Only files are looked at, ``v2/blobs/<algorithm>/<2 hex>/<hex>``, or ``v1/blobs`` of older programs. So the
directory may be another machine's cache (its large blobs are found), or one made with ``small_limit_bytes=0`` (all
are). Its content is not trusted: a blob is hashed in full each time, and one named by a weak hash, which other bytes
can be made to have, is only taken from a file that only this user or root can change. Nothing is
written, nothing removed.

Calls may take as long as the network's file system does, for ever if it hangs.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from typing import TYPE_CHECKING, TypeVar

from fusepkg_cache.digest import Hashing
from fusepkg_cache.errors import WrongBytes
from fusepkg_cache.files import BlobFiles
from fusepkg_cache.layout import CacheLayout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fusepkg_cache.digest import Digest

log = logging.getLogger(__name__)

PIECE_BYTES = 1024 * 1024
"""Read at once: as much as NFS transfers in one request."""

LOOK_EVERY_S = 60.0
"""Between two looks whether the directory is there at all, which a blob that is missing does not tell."""

_T = TypeVar("_T")


class LowerCache:
    """A lower cache. ``hits`` are the blobs it gave, ``damaged`` those it has that are not what their names say.

    ``on_hit`` is called with every hit, in the thread that asked.
    """

    def __init__(self, directory: Path, on_hit: Callable[[], None] = lambda: None) -> None:
        self.directory = directory.absolute()
        layout = CacheLayout(self.directory)
        self._blobs = BlobFiles(layout.blobs)
        self._old_blobs = BlobFiles(layout.old_root / "blobs")
        self._has_old_blobs = False
        self._on_hit = on_hit
        self._warned: set[str] = set()
        self._look_again_s = 0.0
        self.hits = 0
        self.damaged = 0
        self.errors = 0

    def read(
        self, digest: Digest, offset: int = 0, length: int | None = None, *, size: int | None = None
    ) -> bytes | None:
        """Part of a blob, to its end for a length of None; None where it is not there, or damaged anywhere.

        Where the ``size`` of the blob is known, a file of another one is not even read.
        """
        end = None if length is None else offset + length

        def cut(found_bytes: int, pieces: Iterator[bytes]) -> bytes:
            hashing, parts, at = Hashing(digest.algorithm, found_bytes), [], 0
            for piece in pieces:
                hashing.update(piece)
                part = piece[max(0, offset - at) : None if end is None else max(0, end - at)]
                if part:
                    parts.append(part)
                at += len(piece)
            if not digest.matches(hashing.digest()):
                raise WrongBytes(f"{at} bytes of the lower cache are not {digest}")
            return parts[0] if len(parts) == 1 else b"".join(parts)

        return self.give(digest, cut, size=size)

    def give(
        self, digest: Digest, taken_by: Callable[[int, Iterator[bytes]], _T], *, size: int | None = None
    ) -> _T | None:
        """What ``taken_by`` makes of a blob's size and its pieces; None where it is not there, or cannot be read.

        The pieces are not checked: ``taken_by`` raises WrongBytes where they are not the blob, which is None here
        too. Whatever else it raises is raised.
        """
        try:
            descriptor = self._open(digest)
        except OSError as exc:
            self._cannot_read(exc)
            return None
        if descriptor is None:
            return None
        try:
            found_bytes = os.fstat(descriptor).st_size
            if size not in (None, found_bytes):
                raise WrongBytes(f"{found_bytes} bytes in place of {size}")
            taken = taken_by(found_bytes, _pieces(descriptor))
        except WrongBytes as exc:
            self.damaged += 1
            self._warn("damaged", f"{self._blobs.path(digest)} is damaged, and was passed over: {exc.message}")
            return None
        except _CannotRead as exc:
            self._cannot_read(exc.error)
            return None
        finally:
            os.close(descriptor)
        self.hits += 1
        self._on_hit()
        return taken

    def _open(self, digest: Digest) -> int | None:
        descriptor = self._open_in(self._blobs, digest)
        if descriptor is None:
            self._look()
            if self._has_old_blobs:
                descriptor = self._open_in(self._old_blobs, digest)
        return descriptor

    def _open_in(self, blobs: BlobFiles, digest: Digest) -> int | None:
        try:  # not blocking: somebody may have put a FIFO there
            descriptor = os.open(blobs.path(digest), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and not (digest.algorithm.weak and _others_can_write(found)):
            return descriptor
        os.close(descriptor)
        return None

    def _look(self) -> None:
        """Now and then, whether there is a lower cache at all. Raises OSError if not."""
        now = time.monotonic()
        if now >= self._look_again_s:
            self._look_again_s = now + LOOK_EVERY_S
            self._has_old_blobs = self._old_blobs.directory.is_dir()
            os.stat((self._old_blobs if self._has_old_blobs else self._blobs).directory)
            self._warned.discard("unreadable")

    def _cannot_read(self, exc: OSError) -> None:
        self.errors += 1
        self._warn("unreadable", f"cannot be read: {exc}")

    def _warn(self, kind: str, message: str) -> None:
        level = logging.DEBUG if kind in self._warned else logging.WARNING
        self._warned.add(kind)
        log.log(level, "the lower cache in %s: %s", self.directory, message)


class _CannotRead(Exception):
    """Carries an error of the lower cache's disk past the errors of the consumer of the pieces."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error


def _pieces(descriptor: int) -> Iterator[bytes]:
    at = 0
    while True:
        try:
            piece = os.pread(descriptor, PIECE_BYTES, at)
        except OSError as exc:
            raise _CannotRead(exc) from exc
        if not piece:
            return
        at += len(piece)
        yield piece


def _others_can_write(found: os.stat_result) -> bool:
    return found.st_uid not in (0, os.geteuid()) or bool(found.st_mode & 0o022)
