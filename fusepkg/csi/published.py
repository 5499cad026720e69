"""What is published where on this node, kept for the next driver: one small file for each target path.

They lie on a file system that is empty after the machine starts, as its table of mounts is.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
from fusepkg_cache.private_directory import make_private

from fusepkg.csi.volumes import Volume

if TYPE_CHECKING:
    from pathlib import Path


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A volume at a target path. ``shared_as`` names the mount that it is a view of."""

    target: str
    volume_id: str
    volume: Volume
    shared_as: str


class PublishedVolumes:
    """Those of one directory. Each write is whole: it is there after a kill, or it is not."""

    def __init__(self, directory: Path) -> None:
        make_private(directory)
        self._directory = directory

    def at(self, target: Path) -> Published | None:
        """Return what is published there; None where nothing is, or where its file cannot be read."""
        return _read(self._path(target))

    def add(self, published: Published) -> None:
        """Keep it, in the place of what was at its target."""
        path = self._path(published.target)
        draft = path.with_suffix(".draft")
        draft.write_bytes(msgspec.json.encode(published))
        draft.rename(path)

    def remove(self, target: Path) -> None:
        """Forget what is there."""
        self._path(target).unlink(missing_ok=True)

    def all(self) -> list[Published]:
        """Return those whose files can be read."""
        found = (_read(path) for path in self._directory.glob("*.json"))
        return [one for one in found if one is not None]

    def is_used(self, shared_as: str) -> bool:
        """Return whether a volume is a view of that mount."""
        return any(one.shared_as == shared_as for one in self.all())

    def _path(self, target: Path | str) -> Path:
        return self._directory / f"{hashlib.sha256(os.fsencode(target)).hexdigest()[:32]}.json"


def _read(path: Path) -> Published | None:
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(path.read_bytes(), type=Published)
    return None
