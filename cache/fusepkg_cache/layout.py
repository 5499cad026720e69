"""Where things lie in a cache directory, and whether the directory may be used at all.

Owns: names, modes, the version file, the owner check, the lock that whoever opens or replaces the LMDB environment
holds. Must not know: what is inside the environment or a blob.

    <directory>/v1/VERSION                              "fusepkg-cache 1"
    <directory>/v1/lock                                 held while the environment is opened or replaced
    <directory>/v1/claims                               empty; bytes of it are locked while blobs are fetched
    <directory>/v1/lmdb/{data,lock}.mdb                 small blobs, block sums of large ones, totals
    <directory>/v1/lmdb.damaged/                        the last environment that was found damaged, if any
    <directory>/v1/blobs/<algorithm>/<2 hex>/<hex>      large blobs, raw bytes
    <directory>/v1/pins/<hex>                           lists of blobs that are not evicted
    <directory>/v1/staging/<token>/                     unfinished files of one process

The version is in the path, so that a newer program can keep ``v2`` beside ``v1`` and neither harms the other.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import secrets
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg_cache._translate import translated
from fusepkg_cache.errors import CacheUnusable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logging.getLogger(__name__)

LAYOUT_VERSION = 1
"""Raised by any change of names or bytes below ``v<n>/`` that an older program would misread."""

_VERSION_LINE = re.compile(rb"fusepkg-cache (\d+)\n")
_OURS = re.compile(r"v\d+")
_DIRECTORY_MODE = 0o700
"""Blobs may be private data: nobody but their owner looks in."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one cache directory."""

    directory: Path

    @property
    def root(self) -> Path:
        """All that this layout version owns."""
        return self.directory / f"v{LAYOUT_VERSION}"

    @property
    def version_file(self) -> Path:
        """Says that ``root`` is laid out as this module describes."""
        return self.root / "VERSION"

    @property
    def lock_file(self) -> Path:
        """Locked while the environment is opened or replaced."""
        return self.root / "lock"

    @property
    def claims_file(self) -> Path:
        """Where fetches are claimed; made by the first that is."""
        return self.root / "claims"

    @property
    def environment(self) -> Path:
        """The LMDB environment."""
        return self.root / "lmdb"

    @property
    def damaged(self) -> Path:
        """Where a damaged environment is moved; at most one is kept."""
        return self.root / "lmdb.damaged"

    @property
    def blobs(self) -> Path:
        """Large blobs."""
        return self.root / "blobs"

    @property
    def pins(self) -> Path:
        """Lists of blobs that are not evicted; made with the first."""
        return self.root / "pins"

    @property
    def staging(self) -> Path:
        """Unfinished files."""
        return self.root / "staging"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone, among all processes, in opening or replacing the environment.

        Whoever holds this may go on to take LMDB's write lock; never the other way round.
        """
        descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing does not, if another thread forked meanwhile
        finally:
            os.close(descriptor)


def prepare(directory: Path) -> Layout:
    """Make the directory a cache, or find that it is one; cheap, and safe to do from many processes at once.

    Raises: CacheUnusable where it is no directory, another user's, or laid out by a newer program; CacheReadOnly.
    """
    layout = Layout(directory.absolute())
    with translated(f"cannot use {directory} as a cache"):
        layout.directory.parent.mkdir(parents=True, exist_ok=True)
        _make_private(layout.directory)
        if all(_OURS.fullmatch(name) for name in os.listdir(layout.directory)):
            _tighten(layout.directory)  # a directory that holds other things too keeps the mode its user chose
        _make_private(layout.root)
        _tighten(layout.root)
        _check_version(layout)
        for path in (layout.blobs, layout.staging):
            path.mkdir(mode=_DIRECTORY_MODE, exist_ok=True)
    return layout


def _make_private(path: Path) -> None:
    """Make ``path`` a directory of ours alone, or refuse what is there."""
    try:
        path.mkdir(mode=_DIRECTORY_MODE)
    except FileExistsError:
        found = path.stat()
        if not stat.S_ISDIR(found.st_mode):
            raise CacheUnusable(
                f"cannot use {path} as a cache: it is not a directory", hint="Name another directory"
            ) from None
        if found.st_uid != os.geteuid():
            raise CacheUnusable(
                f"cannot use {path} as a cache: it belongs to user {found.st_uid}, not {os.geteuid()}",
                hint="Whoever owns it could change what is read from it: name a directory of your own",
            ) from None


def _tighten(path: Path) -> None:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        path.chmod(_DIRECTORY_MODE)


def _check_version(layout: Layout) -> None:
    try:
        found = layout.version_file.read_bytes()
    except FileNotFoundError:
        found = None
    if found is not None:
        match = _VERSION_LINE.fullmatch(found)
        if match and int(match[1]) != LAYOUT_VERSION:
            raise CacheUnusable(
                f"cannot use {layout.root} as a cache: it has layout version {int(match[1])}, "
                f"this program knows {LAYOUT_VERSION}",
                hint="It was left as it is: use the program that made it, or name another directory",
            )
        if match:
            return
        log.warning("%s is damaged: written anew", layout.version_file)
    unfinished = layout.root / f"VERSION.{secrets.token_hex(8)}"
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as out:
        out.write(b"fusepkg-cache %d\n" % LAYOUT_VERSION)
        out.flush()
        os.fsync(out.fileno())  # renamed without it, a power cut could leave an empty file
    unfinished.rename(layout.version_file)
