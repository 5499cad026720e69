"""Bytes to bring into a bucket: of a file of this machine, or of an object that lies elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg.model.cache_names import unique_digest

if TYPE_CHECKING:
    from pathlib import Path

    from fusepkg_cache.digest import Digest

    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.publish.hashes import Hashed
    from fusepkg.publish.scanned import ScannedFile


@dataclass(frozen=True, slots=True)
class LocalBlob:
    """A file, and what it hashes to."""

    file: ScannedFile
    hashed: Hashed
    restored_key: str | None = None
    """The key of an object of these bytes that older versions name and that is gone: taken again if it is free."""

    @property
    def logical_key(self) -> str:
        """What its key is made of."""
        return self.file.logical_key

    @property
    def size(self) -> int:
        """Bytes."""
        return self.file.size

    @property
    def identity(self) -> Digest:
        """A name that no other bytes have."""
        return self.hashed.digest


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """An object somewhere else; ``temporary`` is a copy of it on this machine, if there is one.

    ``etag`` is what its store told when the hash was learnt, None where the hash is only what a manifest says.
    """

    logical_key: str
    place: PhysicalKey
    size: int
    hashed: Hashed
    temporary: Path | None = None
    etag: str | None = None
    restored_key: str | None = None

    @property
    def identity(self) -> Digest:
        """A name that no other bytes have: others may share a weak checksum, so that says whose it is."""
        return unique_digest(self.hashed.digest, self.place, self.size)
