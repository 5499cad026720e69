"""Where things lie in a cache directory, and whether the directory may be used at all.

    <directory>/v2/VERSION                              "fusepkg-cache 2"
    <directory>/v2/lock                                 locked while the index and segments are changed
    <directory>/v2/claims                               empty; bytes of it are locked while blobs are fetched
    <directory>/v2/index                                which blob lies where; totals; may be lost
    <directory>/v2/segments/<8 hex>                     small blobs, and block sums of large ones
    <directory>/v2/blobs/<algorithm>/<2 hex>/<hex>      large blobs, raw bytes
    <directory>/v2/pins/<hex>                           lists of blobs that are not evicted
    <directory>/v2/staging/<token>/                     unfinished files of one process

The version is in the path, so that a newer program can keep ``v3`` beside ``v2`` and neither harms the other. What an
older program left in ``v1`` is taken over when ``v2`` is made: large blobs and pins have the same names and bytes; the
small blobs lay in LMDB, and are dropped.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg_cache._translate import translated
from fusepkg_cache.errors import CacheUnusable
from fusepkg_cache.private_directory import PRIVATE_MODE, make_private

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger(__name__)

LAYOUT_VERSION = 2
"""Raised by any change of names or bytes below ``v<n>/`` that an older program would misread."""

_VERSION_LINE = re.compile(rb"fusepkg-cache (\d+)\n")
_OURS = re.compile(r"v\d+")


@dataclass(frozen=True, slots=True)
class CacheLayout:
    """The paths of one cache directory."""

    directory: Path

    @property
    def root(self) -> Path:
        """All that this layout version owns."""
        return self.directory / f"v{LAYOUT_VERSION}"

    @property
    def old_root(self) -> Path:
        """What the layout version before this one owns."""
        return self.directory / "v1"

    @property
    def version_file(self) -> Path:
        """Says that ``root`` is laid out as this module describes."""
        return self.root / "VERSION"

    @property
    def lock_file(self) -> Path:
        """Locked while the index and segments are changed."""
        return self.root / "lock"

    @property
    def claims_file(self) -> Path:
        """Where fetches are claimed; made by the first that is."""
        return self.root / "claims"

    @property
    def index_file(self) -> Path:
        """Which blob lies where."""
        return self.root / "index"

    @property
    def segments(self) -> Path:
        """Small blobs, and block sums of large ones."""
        return self.root / "segments"

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


def prepare(directory: Path) -> CacheLayout:
    """Make the directory a cache, or find that it is one; cheap, and safe to do from many processes at once.

    Raises: CacheUnusable if it is no directory, if others can write to it or put another in its place, or if it is
    laid out by a newer program; CacheReadOnly.
    """
    layout = CacheLayout(directory.absolute())
    with translated(f"cannot use {directory} as a cache"):
        if _holds_other_things(layout.directory):  # it keeps the mode that its user chose
            _require_ours(layout.directory)
        else:
            make_private(layout.directory)
        is_new = not layout.root.exists()
        make_private(layout.root)
        _set_aside_what_is_no_file(layout)
        _check_version(layout)
        for path in (layout.blobs, layout.segments, layout.staging):
            make_below(path)
        if is_new:
            take_over(layout)
    return layout


def make_below(path: Path) -> None:
    """Make a directory inside the cache with mode 0700, or check the one that is there."""
    try:
        path.mkdir(mode=PRIVATE_MODE)
    except FileExistsError:
        found = path.stat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o022 or not stat.S_ISDIR(found.st_mode):
            make_private(path)  # says what is wrong


def take_over(layout: CacheLayout) -> None:
    """Move the large blobs and pins of an older layout into this one, and drop what else was in it."""
    old = layout.old_root
    try:
        version = (old / "VERSION").read_bytes()
        make_private(old)
    except (OSError, CacheUnusable):
        return
    if version != b"fusepkg-cache 1\n":
        return
    for name, target in (("blobs", layout.blobs), ("pins", layout.pins)):
        with suppress(OSError):
            if target.is_dir():
                target.rmdir()
            (old / name).rename(target)
    make_below(layout.blobs)
    shutil.rmtree(old, ignore_errors=True)
    log.info("the large blobs in %s were taken over; its small ones are fetched again when needed", old)


def _holds_other_things(directory: Path) -> bool:
    try:
        return not all(_OURS.fullmatch(name) for name in os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return False


def _require_ours(directory: Path) -> None:
    owner = directory.stat().st_uid
    if owner != os.geteuid():
        raise CacheUnusable(
            f"cannot use {directory} as a cache: it belongs to user {owner}, not {os.geteuid()}",
            hint="Its owner could change what is read from it: name a directory of your own",
        )


def _set_aside_what_is_no_file(layout: CacheLayout) -> None:
    """Take away what has the name of one of our files or directories and is another kind of thing.

    It would be an error for ever, or a call that waits for ever. It is kept for looking at in ``staging``, from where
    it is swept with what dead processes left there.
    """
    for path in (layout.version_file, layout.lock_file, layout.claims_file, layout.index_file):
        _set_aside_unless(stat.S_ISREG, path, layout)
    for path in (layout.staging, layout.blobs, layout.segments, layout.pins):
        _set_aside_unless(stat.S_ISDIR, path, layout)
    with suppress(FileNotFoundError), os.scandir(layout.segments) as found:
        for entry in found:
            if not entry.is_file(follow_symlinks=False):
                _set_aside_unless(stat.S_ISREG, layout.segments / entry.name, layout)


def _set_aside_unless(is_right: Callable[[int], bool], path: Path, layout: CacheLayout) -> None:
    try:
        if is_right(path.lstat().st_mode) or (path.is_symlink() and path.is_dir() and is_right(path.stat().st_mode)):
            return
        aside = layout.staging if path != layout.staging else layout.root
        make_below(aside)
        moved = aside / f"{path.name}.{secrets.token_hex(8)}"
        path.rename(moved)
    except FileNotFoundError:  # not there, or another process was first
        return
    if is_right(moved.lstat().st_mode):  # another process was first, and has put a right one there
        moved.rename(path)
        return
    log.warning("%s is not what it has to be: moved to %s, a new one is made", path, moved)


def _check_version(layout: CacheLayout) -> None:
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
        log.warning("%s is damaged: written again", layout.version_file)
    unfinished = layout.root / f"VERSION.{secrets.token_hex(8)}"
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as out:
        out.write(b"fusepkg-cache %d\n" % LAYOUT_VERSION)
        out.flush()
        os.fsync(out.fileno())  # renamed without it, a power cut could leave an empty file
    unfinished.rename(layout.version_file)
