"""Objects that a read, install or check found missing or with other bytes: a push looks at them again and heals them.

One small file per object, so that many processes may note without a lock. Losing the notes costs no more than that a
push believes the bucket again.
"""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from fusepkg.errors import ManifestInvalid
from fusepkg.model.physical_key import parse_physical_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fusepkg.model.physical_key import PhysicalKey

log = logging.getLogger(__name__)

MAX_NOTES = 10_000
"""Notes kept: a bucket with more damage is checked as a whole."""

_MAX_URL_BYTES = 8192


class DamagedObjects:
    """The notes of one machine, in ``directory``. Nothing is raised where that cannot be used."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def note(self, place: PhysicalKey) -> None:
        """Note that an object is missing or damaged. From any thread."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._path(place)
            if path.exists() or len(os.listdir(self._directory)) >= MAX_NOTES:
                return
            staged = path.with_name(f"{path.name}.{os.getpid()}")
            staged.write_text(str(place), encoding="utf-8")
            staged.rename(path)
        except (OSError, ValueError) as exc:
            log.debug("%s is damaged, which could not be noted: %s", place, exc)

    def has(self, place: PhysicalKey) -> bool:
        """Whether an object was found damaged."""
        try:
            return self._path(place).exists()
        except OSError:
            return False

    def __iter__(self) -> Iterator[PhysicalKey]:
        """Yield the objects that were found damaged."""
        try:
            names = sorted(os.listdir(self._directory))
        except OSError:
            return
        for name in names:
            with suppress(OSError, ValueError, ManifestInvalid):
                with (self._directory / name).open("rb") as file:
                    place = parse_physical_key(file.read(_MAX_URL_BYTES).decode())
                if self._path(place).name == name:
                    yield place

    def forget(self, place: PhysicalKey) -> None:
        """Drop the note of an object that is sound again."""
        with suppress(OSError):
            self._path(place).unlink()

    def _path(self, place: PhysicalKey) -> Path:
        return self._directory / hashlib.sha256(str(place).encode("utf-8", "surrogateescape")).hexdigest()
