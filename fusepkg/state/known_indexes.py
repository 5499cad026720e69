"""List the packages with indexes on this machine, from a small file beside the indexes of each package.

``<indexes>/<16 hex>/package.json`` is ``{"bucket": ..., "name": ...}``, the bucket as a user names it. It may be
missing or damaged: then the package of these indexes is unknown until it is opened again.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from fusepkg.errors import InvalidReference
from fusepkg.index.files import LAYOUT, index_directory
from fusepkg.model.reference import BucketUrl, Reference, parse_bucket
from fusepkg.work.private import make_private_directories
from fusepkg.work.scratch import scratch_name

if TYPE_CHECKING:
    from pathlib import Path

_FILE = "package.json"
_TOP_HASH = re.compile(r"[0-9a-f]{64}")


class _Content(msgspec.Struct, frozen=True):
    bucket: str
    name: str


@dataclass(frozen=True, slots=True)
class KnownPackage:
    """A package with indexes below ``root``; ``bucket`` is None if unknown."""

    root: Path
    bucket: BucketUrl | None
    name: str
    top_hashes: tuple[str, ...]

    def __str__(self) -> str:
        """The package as a user writes it."""
        return Reference(self.bucket, self.name).package if self.bucket else f"unknown ({self.root.name})"

    def directory(self, top_hash: str) -> Path:
        """Return the directory of one of its indexes."""
        return index_directory(self.root, top_hash)


def known_packages(indexes: Path) -> list[KnownPackage]:
    """Return every package that has an index here, by name. Raises OSError if the directory cannot be read."""
    try:
        roots = list(os.scandir(indexes))
    except FileNotFoundError:
        return []
    found = []
    for root in roots:
        names = _names(indexes / root.name / LAYOUT)
        top_hashes = tuple(sorted(name for name in names if _TOP_HASH.fullmatch(name)))
        if top_hashes:
            bucket, name = _read(indexes / root.name)
            found.append(KnownPackage(indexes / root.name, bucket, name, top_hashes))
    return sorted(found, key=str)


def note_package(root: Path, reference: Reference) -> None:
    """Write the package of the indexes below ``root``, unless it is written already. Disk errors are ignored."""
    if _read(root)[0] is not None:
        return
    content = _Content(str(reference.bucket), reference.name)
    unfinished = root / scratch_name(_FILE)
    with suppress(OSError):
        make_private_directories(root)
        unfinished.write_bytes(msgspec.json.encode(content))
        unfinished.rename(root / _FILE)


def _read(root: Path) -> tuple[BucketUrl | None, str]:
    try:
        content = msgspec.json.decode((root / _FILE).read_bytes(), type=_Content)
        return parse_bucket(content.bucket), content.name
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, InvalidReference):
        return None, ""


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
